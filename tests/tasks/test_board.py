"""What only shows progress: it ends no run, holds none up, and is shown when it can be."""

import threading
import time

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from tasks import board as board_module
from tasks.board import Board


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr(board_module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(board_module, "LONGEST_PAUSE", 0.05)
    return Board()


def answered(status):
    request = httpx.Request("POST", "http://prefect/api/artifacts")
    return PrefectHTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


FAULTS = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), answered(500), answered(503), OSError("reset")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_server_that_does_not_answer_is_asked_again_and_the_run_goes_on(board, fault, caplog):
    tries = []

    def show():
        tries.append(1)
        if len(tries) < 3:
            raise fault

    board.show("progress", show)
    board.drain(10)
    assert len(tries) == 3 and "the run goes on" in caplog.text


def test_showing_takes_no_time_of_the_run(board):
    hold = threading.Event()
    began = time.monotonic()
    board.show("progress", hold.wait)
    board.show("card", lambda: None)
    assert time.monotonic() - began < 1
    hold.set()


def test_of_many_that_wait_only_the_latest_is_shown(board):
    shown, hold = [], threading.Event()
    board.show("first", hold.wait)
    for percent in range(100):
        board.show("progress", lambda percent=percent: shown.append(percent))
    hold.set()
    board.drain(10)
    assert shown == [99]


def test_a_defect_in_what_is_shown_ends_nothing_and_is_logged(board, caplog):
    shown = []
    board.show("broken", lambda: 1 / 0)
    board.show("whole", lambda: shown.append(1))
    board.drain(10)
    assert shown == [1] and "ZeroDivisionError" in caplog.text


def test_the_end_of_a_run_does_not_wait_for_ever(board):
    board.show("hangs", threading.Event().wait)
    began = time.monotonic()
    board.drain(0.2)
    assert time.monotonic() - began < 5

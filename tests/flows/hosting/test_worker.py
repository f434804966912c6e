"""The worker of `serve` is ended with all that it has started, and what cannot be ended holds nobody up."""

import logging
import subprocess
import sys
import time

import psutil
import pytest

from flows.hosting import worker


class Popen:
    """A worker that ends when it is killed, or does not."""

    pid = 10

    def __init__(self, *, dies=True):
        self.dies, self.code = dies, None

    def poll(self):
        return self.code

    def kill(self):
        self.code = -9 if self.dies else None


class Process:
    """Something that the worker has started."""

    def __init__(self, pid, *, ends_when_killed=True, kill=None, status=psutil.STATUS_RUNNING):
        self.pid, self.ends_when_killed, self.fault, self.state = pid, ends_when_killed, kill, status
        self.killed = 0

    def status(self):
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def kill(self):
        self.killed += 1
        if self.fault:
            raise self.fault
        if self.ends_when_killed:
            self.state = psutil.NoSuchProcess(self.pid)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(worker, "SECONDS_TO_END", 0.1)
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_LOOKS", 0.01)


def end(monkeypatch, caplog, *tree, dies=True):
    """The warnings with which the worker's end was given up."""
    monkeypatch.setattr(worker, "_tree", lambda of: list(tree))
    with caplog.at_level(logging.WARNING):
        worker._end(Popen(dies=dies))
    return [record.getMessage() for record in caplog.records]


def test_what_ends_with_the_worker_is_not_killed(monkeypatch, caplog):
    run = Process(11, status=psutil.STATUS_ZOMBIE)
    assert (end(monkeypatch, caplog, run), run.killed) == ([], 0)


def test_what_outlives_the_worker_is_killed(monkeypatch, caplog):
    run = Process(11)
    assert (end(monkeypatch, caplog, run), run.killed) == ([], 1)


def test_what_cannot_be_killed_is_named_and_left(monkeypatch, caplog):
    stuck, run = Process(11, ends_when_killed=False), Process(12)
    told = end(monkeypatch, caplog, stuck, run)
    assert told == ["processes [11] do not end although they were killed; left alone"]


def test_a_worker_that_cannot_be_killed_is_named_and_left(monkeypatch, caplog):
    assert "processes [10] do not end" in end(monkeypatch, caplog, dies=False)[0]


@pytest.mark.parametrize("fault", [psutil.AccessDenied(11), psutil.NoSuchProcess(11)])
def test_a_process_that_may_not_be_killed_keeps_no_other_alive(monkeypatch, caplog, fault):
    others, run = Process(11, kill=fault), Process(12)
    assert "processes [11]" in end(monkeypatch, caplog, others, run)[0]
    assert run.killed == 1


def test_a_process_that_may_not_be_looked_at_counts_as_there(monkeypatch, caplog):
    hidden = Process(11, ends_when_killed=False, status=psutil.AccessDenied(11))
    assert "processes [11]" in end(monkeypatch, caplog, hidden)[0]


@pytest.mark.parametrize("fault", [psutil.AccessDenied(10), psutil.NoSuchProcess(10)])
def test_a_worker_whose_tree_cannot_be_seen_is_ended_all_the_same(monkeypatch, fault):
    monkeypatch.setattr(psutil, "Process", lambda pid: (_ for _ in ()).throw(fault))
    ended = Popen()
    worker._end(ended)
    assert ended.poll() == -9


def test_a_real_worker_ends_with_its_child():
    script = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        child = psutil.Process(int(process.stdout.readline()))
        since = time.monotonic()
        worker._end(process)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert time.monotonic() - since < 5

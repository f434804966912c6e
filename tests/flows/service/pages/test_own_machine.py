"""The link with Prefect's password is for browsers of the same machine and user alone, as the kernel knows them."""

import os
import socket

import pytest
from fastapi import Request

from flows.service.pages import own_machine
from schemas.settings import settings

ENTRANCE = "http://127.0.0.1:4200/enter#cGFzcw=="


@pytest.fixture
def asked(monkeypatch):
    """A request over a connection that this test has opened."""
    monkeypatch.setattr(own_machine, "entrance", lambda: ENTRANCE)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:

        def ask(headers=(), **changed):
            scope = {"type": "http", "client": client.getsockname(), "server": server.getsockname(), "headers": headers}
            return Request(scope | changed)

        yield ask


def test_the_same_user_on_the_same_machine_gets_in_at_the_run(asked):
    assert own_machine.prefect_link(asked(), "0-1") == f"{ENTRANCE};/runs/flow-run/0-1"


def test_another_user_of_the_machine_does_not(asked, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert own_machine.prefect_link(asked(), "0-1") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"client": ("192.0.2.7", 5000)},
        {"client": ("127.0.0.1", 1)},  # nobody's connection
        {"client": ("testclient", 50000)},
        {"client": None},
        {"headers": [(b"x-forwarded-for", b"192.0.2.7")]},
    ],
)
def test_whoever_comes_from_elsewhere_or_through_a_proxy_does_not(asked, changed):
    assert own_machine.prefect_link(asked(**changed), "0-1") is None


def test_where_a_proxy_stands_before_the_service_nobody_does(asked, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_PUBLIC_URL", "https://ltx.example.org")
    settings.cache_clear()
    assert own_machine.prefect_link(asked(), "0-1") is None


def test_a_server_that_asks_for_no_password_is_linked_plainly(asked, monkeypatch):
    monkeypatch.setattr(own_machine, "entrance", lambda: "http://prefect.example")
    assert own_machine.prefect_link(asked(), "0-1") == "http://prefect.example/runs/flow-run/0-1"


def test_a_request_without_a_run_has_no_link(asked):
    assert own_machine.prefect_link(asked(), None) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:1F90", ("127.0.0.1", 8080)),
        ("00000000000000000000000001000000:0050", ("::1", 80)),
        ("0000000000000000FFFF00000100007F:0050", ("127.0.0.1", 80)),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(text, address):
    assert own_machine._address(text) == address

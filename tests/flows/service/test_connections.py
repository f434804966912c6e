"""Connections on which no request comes are closed; one whose request has come stays, however long its answer takes."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from flows.hosting.certificate import self_signed
from flows.service.connections import Connection, Loop, guarded, listen

HEAD, BODY, HANDSHAKE = 0.6, 0.6, 0.4
LONGER = 2.0  # than any of them
SOON = 10.0  # a limit, not an expectation
EARLY = 0.05  # what the clocks of two processes may differ by
BEGUN = b"GET / HTTP/1.1\r\nHost: here\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n"


class Hasty(Connection):
    head_seconds, body_seconds = HEAD, BODY


class HastyLoop(Loop):
    handshake_seconds, goodbye_seconds = HANDSHAKE, HANDSHAKE


def application():
    app = FastAPI()

    @app.get("/")
    def at_once():
        return "here"

    @app.get("/slow")
    async def slow():
        await asyncio.sleep(LONGER)
        return "here at last"

    @app.get("/events")
    async def events():
        async def told():
            yield "data: 1\n\n"
            await asyncio.sleep(LONGER)
            yield "data: 2\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.post("/read")
    async def read(request: Request):
        return len(await request.body())

    @app.post("/read-later")
    async def read_later(request: Request):
        await asyncio.sleep(LONGER)
        return len(await request.body())

    return app


@contextmanager
def served(**more):
    """The port of a server with little patience."""
    config = guarded(application(), timeout_keep_alive=2, **more)
    config.http, config.loop = Hasty, f"{__name__}:HastyLoop"
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def plain():
    with served() as port:
        yield port


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder, ())
    with served(ssl_certfile=certificate, ssl_keyfile=key) as port:
        yield port, ssl.create_default_context(cafile=folder / "authority.pem")


def connected(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=SOON)
    return connection, time.monotonic()


def seconds_open(connection, since):
    """How long it took until the other side closed it."""
    try:
        while connection.recv(1024):
            pass
    except ConnectionResetError:
        pass
    connection.close()
    return time.monotonic() - since


def test_a_connection_on_which_nothing_comes_is_closed(plain):
    assert HEAD - EARLY <= seconds_open(*connected(plain)) < SOON


def test_a_head_that_trickles_does_not_keep_its_connection(plain):
    connection, since = connected(plain)
    connection.sendall(BEGUN)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while time.monotonic() - since < SOON:
            connection.sendall(b"X-More: 1\r\n")
            time.sleep(HEAD / 5)
    connection.close()


def test_a_second_request_that_trickles_does_not_keep_it_either(plain):
    connection, since = connected(plain)
    connection.sendall(BEGUN + b"\r\n")
    assert b"200" in connection.recv(1024)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while time.monotonic() - since < SOON:
            connection.sendall(b"\r\n")
            time.sleep(HEAD / 5)
    connection.close()


def test_a_body_whose_rest_does_not_come_is_not_waited_for(plain):
    connection, since = connected(plain)
    connection.sendall(POST + b"\r\nab")
    assert BODY - EARLY <= seconds_open(connection, since) < SOON


def test_a_body_that_comes_slowly_but_comes_is_read(plain):
    connection, _ = connected(plain)
    connection.sendall(POST + b"\r\n")
    for piece in (b"a", b"b", b"c", b"d"):
        time.sleep(BODY / 2)
        connection.sendall(piece)
    assert connection.recv(4096).endswith(b"\r\n\r\n4")
    connection.close()


@pytest.mark.parametrize("size", [4, 1_000_000])
def test_a_body_that_is_read_late_is_still_read(plain, size):
    answer = httpx.post(f"http://127.0.0.1:{plain}/read-later", content=b"x" * size, timeout=SOON)
    assert answer.json() == size


def test_who_waits_to_be_asked_for_the_body_is_not_cut_off(plain):
    connection, _ = connected(plain)
    connection.sendall(POST.replace(b"/read", b"/read-later") + b"Expect: 100-continue\r\n\r\n")
    assert b"100 Continue" in connection.recv(4096)
    connection.sendall(b"abcd")
    assert connection.recv(4096).endswith(b"\r\n\r\n4")
    connection.close()


def test_a_request_that_takes_longer_is_answered(plain):
    assert httpx.get(f"http://127.0.0.1:{plain}/slow", timeout=SOON).json() == "here at last"


def test_a_stream_that_is_silent_for_longer_goes_on(plain):
    assert httpx.get(f"http://127.0.0.1:{plain}/events", timeout=SOON).text == "data: 1\n\ndata: 2\n\n"


def test_a_request_in_progress_is_answered_whatever_comes_after_it(plain):
    connection, _ = connected(plain)
    connection.sendall(BEGUN.replace(b"/ ", b"/slow ") + b"\r\n" + POST + b"\r\nab")
    assert b"here at last" in connection.recv(4096)
    connection.close()


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_who_would_rather_speak_another_protocol_is_answered_too(plain, protocol):
    connection, since = connected(plain)
    connection.sendall(
        BEGUN.replace(b"/ ", b"/slow ") + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (b"403 Forbidden" if protocol == b"websocket" else b"here at last") in connection.recv(4096)
    assert seconds_open(connection, since) < SOON


def test_requests_on_one_connection_are_answered_one_after_another(plain):
    with httpx.Client(base_url=f"http://127.0.0.1:{plain}") as client:
        answers = []
        for _ in range(3):
            time.sleep(HEAD * 0.7)
            answers.append(client.get("/").json())
    assert answers == ["here"] * 3


def test_a_tls_handshake_that_is_not_begun_is_not_waited_for(tls):
    assert HANDSHAKE - EARLY <= seconds_open(*connected(tls[0])) < SOON


def test_a_tls_connection_on_which_nothing_comes_is_closed(tls):
    port, trusted = tls
    connection, since = connected(port)
    assert HEAD - EARLY <= seconds_open(trusted.wrap_socket(connection, server_hostname="localhost"), since) < SOON


def test_over_tls_a_stream_that_is_silent_for_longer_goes_on(tls):
    port, trusted = tls
    assert httpx.get(f"https://localhost:{port}/events", verify=trusted, timeout=SOON).text.endswith("data: 2\n\n")


SERVER = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
from flows.service.connections import allow_many_connections
from tests.flows.service.test_connections import served
allow_many_connections()
files = dict(zip(("ssl_certfile", "ssl_keyfile"), sys.argv[2:]))
with served(**files) as port:
    print(port, flush=True)
    sys.stdin.read()
"""
CROWD = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(320)]
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(script, *arguments):
    """The first line of another process, which ends with the block."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def let_in(url, trusted):
    try:
        return httpx.get(url, timeout=SOON, verify=trusted).json() == "here"
    except httpx.TransportError:
        return False


@pytest.fixture(params=["http", "https"])
def files(request, tmp_path):
    return self_signed(tmp_path, ()) if request.param == "https" else ()


def trusting(files):
    return ssl.create_default_context(cafile=files[0].with_name("authority.pem")) if files else True


def url_of(port, files):
    return f"{'https' if files else 'http'}://localhost:{port}/"


def test_a_crowd_that_says_nothing_shuts_nobody_out_for_long(files):
    with running(SERVER, 256, *files) as port, running(CROWD, port) as said:
        assert said == "there"
        url, trusted, since = url_of(port, files), trusting(files), time.monotonic()
        while not let_in(url, trusted):
            assert time.monotonic() - since < SOON
            time.sleep(0.05)


def test_a_crowd_that_the_system_allows_shuts_nobody_out_at_all(files):
    with running(SERVER, 1024, *files) as port, running(CROWD, port) as said:
        assert said == "there"
        assert let_in(url_of(port, files), trusting(files))


def test_the_service_runs_with_these_connections_and_no_log_of_requests():
    config = guarded(application())
    config.load()
    assert (config.http_protocol_class, config.get_loop_factory()) == (Connection, Loop)
    assert not config.access_log
    assert (Connection.head_seconds, Connection.body_seconds, Loop.handshake_seconds) == (20, 60, 10)

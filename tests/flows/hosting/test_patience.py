"""Runs and workers wait for a Prefect server that is away, from their first request on."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from flows.hosting import prefect_app
from flows.hosting.patience import GIVEN_UP, without_end

ASK = "from prefect.client.orchestration import get_client; print(get_client(sync_client=True).hello().text)"
ASK_ASYNC = """
import asyncio
from prefect.client.orchestration import get_client

async def ask():
    async with get_client() as client:
        print((await client.hello()).text)

asyncio.run(ask())
"""
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

HTTPServer(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
"""


def asking(port, words=ASK):
    environment = {**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_PLUGINS_ENABLED": "true"}
    environment |= {"PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}
    return subprocess.Popen([sys.executable, "-c", words], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.parametrize("words", [ASK, ASK_ASYNC], ids=["sync", "async"])
def test_who_asks_for_the_first_time_while_the_server_is_away_waits_for_it(port, words):
    with asking(port, words) as client:
        time.sleep(3)  # so long nobody is there
        assert client.poll() is None
        with subprocess.Popen([sys.executable, "-c", SERVER, str(port)]) as server:
            try:
                assert client.communicate(timeout=60)[0] == "hello\n"
            finally:
                server.kill()


def test_a_worker_loops_as_we_have_it():
    words = "import prefect.workers.base as base; print(base.critical_service_loop.__module__)"
    with asking(1, words) as told:
        assert told.communicate(timeout=60)[0] == "flows.hosting.patience\n"


def test_a_loop_that_gives_up_begins_again():
    begun = []

    async def loop(interval, *, jitter_range):
        begun.append((interval, jitter_range))
        if len(begun) < 3:
            raise RuntimeError(GIVEN_UP)

    asyncio.run(without_end(loop)(2, jitter_range=0.3))
    assert begun == [(2, 0.3)] * 3


def test_prefects_own_loop_says_so_when_it_gives_up():
    import httpx
    from prefect.utilities.services import critical_service_loop

    async def nobody_answers():
        raise httpx.ConnectError("nobody answers")

    with pytest.raises(RuntimeError) as given_up:
        asyncio.run(critical_service_loop(nobody_answers, interval=0, printer=lambda *said: None))
    assert str(given_up.value) == GIVEN_UP


def test_another_fault_of_a_loop_is_its_end():
    async def loop():
        raise RuntimeError("no such pool")

    with pytest.raises(RuntimeError, match="no such pool"):
        asyncio.run(without_end(loop)())


def test_what_follows_an_event_that_a_server_before_it_has_heard_is_not_held_back_for_long():
    """A run that was queued before the server was killed crashes after it: its watch has to see that."""
    from prefect.server.events.ordering.memory import CausalOrdering
    from prefect.server.events.schemas.events import ReceivedEvent, Resource

    prefect_app.whole_app()
    crashed = ReceivedEvent(
        occurred=datetime.now(UTC),
        event="prefect.flow-run.Crashed",
        resource=Resource({"prefect.resource.id": "prefect.flow-run.1"}),
        id=uuid4(),
        follows=uuid4(),
        received=datetime.now(UTC) - timedelta(seconds=prefect_app.HELD_BACK.total_seconds() + 1),
    )
    seen = []

    async def see(event, depth=0):
        seen.append(event.id)

    async def arrive():
        async with CausalOrdering(scope="test").preceding_event_confirmed(see, crashed):
            seen.append(crashed.id)

    asyncio.run(arrive())
    assert seen == [crashed.id]

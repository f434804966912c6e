"""Prefect's server asks a busy database again."""

import asyncio

import httpx
import pytest

from flows import prefect_app
from flows.prefect_app import PAUSES, AskAgain

URL = "http://here/api/deployments/1/create_flow_run"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(prefect_app, "PAUSES", (0,) * len(PAUSES))


class Busy:
    """Writes down what it is asked, and is busy so many times."""

    def __init__(self, times):
        self.times, self.asked = times, []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.asked.append((scope["method"], body))
        status = 503 if len(self.asked) <= self.times else 201
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"busy" if status == 503 else b"made"})
        if status == 503:
            raise OSError("database is locked")  # as Starlette does after it has answered


def answer(app, method="POST"):
    async def chunks():
        yield b"a flow "
        yield b"run"

    async def ask():
        transport = httpx.ASGITransport(AskAgain(app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, URL, content=chunks())

    return asyncio.run(ask())


def test_what_is_to_be_written_is_asked_again_whole_until_it_is():
    told = answer(app := Busy(times=2))
    assert (told.status_code, told.text) == (201, "made")
    assert app.asked == [("POST", b"a flow run")] * 3


def test_a_database_that_stays_busy_is_told_in_the_end():
    told = answer(app := Busy(times=100))
    assert (told.status_code, told.text) == (503, "busy")
    assert len(app.asked) == len(PAUSES) + 1


def test_what_is_read_is_asked_once():
    assert answer(app := Busy(times=1), "GET").status_code == 503
    assert len(app.asked) == 1

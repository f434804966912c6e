"""Prefect's own server, patient with SQLite: `python -m flows.prefect_app PORT`.

Where two writers meet, SQLite refuses one of them at once and Prefect answers 503, with nothing changed. Prefect's own
clients then ask again; its pages do not, and a person who presses Submit while a run starts reads "Oops".
"""

import asyncio
import sys

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before asking again
BUSY = 503
READING = ("GET", "HEAD", "OPTIONS")


class AskAgain:
    """Does what is to be written again while the database is busy, and only then tells whoever asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        asked = await _whole(receive)
        for pause in PAUSES:
            answer = _Answer(send)
            try:
                await self.app(dict(scope), _again(asked, receive), answer)
            except Exception:  # raised anew after it has been answered, so that servers can log it
                if not answer.busy:
                    raise
            if not answer.busy:
                return
            await asyncio.sleep(pause)
        await self.app(dict(scope), _again(asked, receive), send)


class _Answer:
    """Passes an answer on, unless it is that the database is busy."""

    def __init__(self, send: Send) -> None:
        self.send, self.busy = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.busy = message["status"] == BUSY
        if not self.busy:
            await self.send(message)


async def _whole(receive: Receive) -> list[Message]:
    """All that a client sends with its request."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """The same from its beginning, and then whatever comes."""
    left = list(messages)

    async def next_one() -> Message:
        return left.pop(0) if left else await receive()

    return next_one


if __name__ == "__main__":
    from prefect.server.api.server import create_app

    port = int(sys.argv[1])
    print(f"Prefect's pages: http://127.0.0.1:{port}", flush=True)
    uvicorn.run(AskAgain(create_app(final=True)), host="127.0.0.1", port=port, log_level="warning")

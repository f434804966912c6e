"""Prefect's own server for one person on one machine: `python -m flows.hosting.prefect_app PORT`.

On SQLite this server is patient. Where two writers meet, SQLite refuses one at once and Prefect answers 503, with
nothing changed. Prefect's own clients then ask again; its pages do not, and a person who presses Submit while a run
starts reads "Oops".

A page from elsewhere in the same browser may send it requests, and a name that leads to loopback makes that page one of
ours to the browser: both are refused before Prefect hears of them.
"""

import asyncio
import socket
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.hosting.files import Files
from schemas.endpoints import ENDPOINTS
from tasks.bulk_import import in_bulk

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before asking again
BUSY = 503
READING = ("GET", "HEAD", "OPTIONS")
HELD_BACK = timedelta(seconds=10)  # an event, for the one before it, which a server that began anew has not heard
OWN_WAY = ("concurrency_limits",)  # their 503 and 423 say that somebody has to wait, and tell the client how long
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FORMER = "prod"  # name of every deployment, before each had its own
BY_NAME = "/deployments/name"
OURS = {endpoint.flow_title for endpoint in ENDPOINTS.values()}
ENTRANCE = "/enter"
ENTER = """<!doctype html><meta charset="utf-8"><title>Prefect</title>
<p>Opening Prefect's pages.</p><noscript>They need JavaScript.</noscript>
<script>
  const [password, page] = location.hash.slice(1).split(";");
  if (password) localStorage.setItem("prefect-password", password);
  location.replace(/^\\/runs\\/flow-run\\/[0-9a-f-]+$/.test(page) ? page : "/");
</script>"""


class FormerNames:
    """Middleware that finds deployments by the names that they had: commands that people have written down go on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            before, flow, name = ("", "", *scope["path"].rsplit("/", 2))[-3:]
            if before.endswith(BY_NAME) and flow in OURS and name == FORMER:
                path = f"{before}/{flow}/{flow}"
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self.app(scope, receive, send)


class OwnPagesOnly:
    """Middleware that admits requests of this machine's programs, and of pages that this server has served."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (fault := fault_of(scope)):
            await _refuse(fault, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == ENTRANCE:
            await HTMLResponse(ENTER, headers={"Referrer-Policy": "no-referrer"})(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def fault_of(scope: Scope) -> str | None:
    """The reason why a request is refused, or None."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in LOOPBACK:  # any port: it may come through a tunnel
        return "this server answers on loopback alone; from elsewhere: ssh -L"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "pages from elsewhere may not use this server"
    opens_a_page = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opens_a_page:
        return "pages from elsewhere may not use this server"
    return None


async def _refuse(fault: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": fault})
        return
    await PlainTextResponse(fault, 403)(scope, receive, send)


class AskAgain:
    """Middleware that repeats a write while the database is busy, before the client is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING or _has_its_own_way(scope["path"]):
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
    """An answer, passed on unless it says that the database is busy."""

    def __init__(self, send: Send) -> None:
        self.send, self.busy = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.busy = message["status"] == BUSY
        if not self.busy:
            await self.send(message)


def _has_its_own_way(path: str) -> bool:
    return any(name in path for name in OWN_WAY)


async def _whole(receive: Receive) -> list[Message]:
    """All messages of a client's request."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """The messages from their beginning, and then whatever comes."""
    left = list(messages)

    async def next_one() -> Message:
        return left.pop(0) if left else await receive()

    return next_one


def whole_app() -> ASGIApp:
    """Prefect's application with its middleware."""
    with in_bulk():  # two seconds, and three without: only where it is served
        from prefect.server.api.server import create_app  # noqa: PLC0415
        from prefect.server.events.ordering import memory  # noqa: PLC0415
        from prefect.settings import get_current_settings  # noqa: PLC0415

    memory.PRECEDING_EVENT_LOOKBACK = HELD_BACK  # type: ignore[attr-defined]  # it is Prefect's own constant
    app = FormerNames(create_app(final=True))
    database = get_current_settings().server.database.connection_url
    on_sqlite = database is None or database.get_secret_value().startswith("sqlite")
    return OwnPagesOnly(Files(AskAgain(app) if on_sqlite else app))


def _door(port: int) -> socket.socket:
    """The port's socket, which the keeper holds."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    door.bind(("127.0.0.1", port))
    return door


if __name__ == "__main__":
    port = int(sys.argv[1])
    print(f"Prefect's pages: http://127.0.0.1:{port}", flush=True)
    server = uvicorn.Server(uvicorn.Config(whole_app(), log_level="warning"))
    with _door(port) as door:
        server.run(sockets=[door])

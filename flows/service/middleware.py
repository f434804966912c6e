"""Middleware of every request: its id, the limit on its body, and the proxy route of fal's JavaScript client."""

import logging
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.settings import settings

PROXY = "/proxy"
WAITING_HOST = "fal.run"  # whose answers are results; see direct.py


class WithoutQueries(logging.Filter):
    """Keeps the queries of addresses, which sign links, out of uvicorn's log of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
        return True


class TooLarge(Exception):
    """A body of which more has come than is allowed."""


class RequestId:
    """Middleware for `x-fal-request-id` on every answer: else clients take some errors for a proxy's and try again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-fal-request-id", str(uuid4()))
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("referrer-policy", "no-referrer")  # links are signed
            await send(message)

        await self.app(scope, receive, send_named)


class BodyLimit:
    """Middleware that refuses bodies as soon as they are too large, whether they announce their length or not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_upload(scope):
            await self.app(scope, receive, send)
            return
        limit, come, answered = settings().max_body_bytes, 0, False
        refusal = JSONResponse(
            {"detail": f"the body is larger than LTX_FLOWS_MAX_BODY_BYTES ({limit}); upload files first"}, 413
        )
        said = Headers(scope=scope).get("content-length", "0")
        if not said.isdigit() or int(said) > limit:
            await refusal(scope, receive, send)
            return

        async def count() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            if come > limit:
                raise TooLarge
            return message

        async def note(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, count, note)
        except TooLarge:
            if not answered:
                await refusal(scope, receive, send)


class Proxy:
    """Middleware for `/proxy` with `x-fal-target-url`: handled by this server, whatever host the client had in mind."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PROXY:
            target = _target(Headers(scope=scope).get("x-fal-target-url", ""))
            if target is None:
                answer = JSONResponse({"detail": "the header x-fal-target-url must hold a URL"}, 400)
                await answer(scope, receive, send)
                return
            path = f"/run{target.path}" if target.hostname == WAITING_HOST else target.path
            redirected: MutableMapping[str, Any] = {**scope, "path": unquote(path)}
            scope = {**redirected, "raw_path": path.encode(), "query_string": target.query.encode()}
        await self.app(scope, receive, send)


def _is_upload(scope: Scope) -> bool:
    """Whether a request's body is a file, which has the limit of downloads."""
    path: str = scope["path"]
    return path.startswith("/uploads/") if scope["method"] == "PUT" else path == "/files/upload"


def _target(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts if parts.path.startswith("/") else None

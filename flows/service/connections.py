"""Connections: idle ones, on which no request comes, are closed before they use up all that may be open.

uvicorn itself waits for ever for the first request and for the rest of a slow one, and a minute for a TLS handshake.
A process may have only so many files open, connections among them: idle ones would shut everybody else out.
"""

import asyncio
import errno
import resource
import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flows.hosting.prefect_app import LOOPBACK
from schemas.errors import LtxFlowsError
from schemas.settings import settings

LARGEST_PORT = 65535
SECONDS_FOR_LAST_ANSWERS = 3


class Connection(HttpToolsProtocol):
    """One client's connection. A request that has come whole may take as long as it likes to be answered."""

    head_seconds = 20.0  # for the whole head of a request, however slowly it trickles
    body_seconds = 60.0  # between two pieces of its body
    deadline: asyncio.TimerHandle | None = None
    in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self.in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it speaks another one from now
            self._stop_waiting()
        elif self.in_body:
            self._wait(self.body_seconds)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self.deadline is None:  # not put off by another piece of the same head
            self._wait(self.head_seconds)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self.deadline = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _give_up(self) -> None:
        if self.in_body and self._keeps_client_waiting():
            self._wait(self.body_seconds)
        else:
            self.transport.abort()  # a polite end would wait for the other side again

    def _keeps_client_waiting(self) -> bool:
        """Whether the rest of a body does not come because of us: nobody has read, or asked for, what came before."""
        asked = self.cycle is None or not self.cycle.waiting_for_100_continue
        return self.flow.read_paused or bool(self.pipeline) or not asked


class Loop(uvloop.Loop):
    """The event loop, whose servers wait neither long for a TLS handshake nor long for its end."""

    handshake_seconds = 10.0
    goodbye_seconds = 5.0

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        if named.get("ssl"):
            named |= {"ssl_handshake_timeout": self.handshake_seconds, "ssl_shutdown_timeout": self.goodbye_seconds}
        return await super().create_server(*arguments, **named)


def guarded(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """Configuration of the API's server: with these connections, and without a log of who asked for what."""
    return uvicorn.Config(
        app,
        http=Connection,
        loop=f"{__name__}:{Loop.__name__}",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # LTX_FLOWS_TRUSTED_PROXIES says whose are believed; see app.py
        timeout_graceful_shutdown=SECONDS_FOR_LAST_ANSWERS,
        **more,
    )


def check_address(host: str, port: int) -> None:
    """Refuse an address on which the API could not listen, or would let everybody in.

    Raises:
        LtxFlowsError: why, and what to type.
    """
    if not host.strip():
        raise LtxFlowsError(f"--host is empty: {LOOPBACK[0]} is this machine alone, 0.0.0.0 lets others in")
    if host not in LOOPBACK and not settings().api_keys.get_secret_value():
        raise LtxFlowsError(f"others reach {host}: set LTX_FLOWS_API_KEYS, or listen on {LOOPBACK[0]}")
    if not 0 <= port <= LARGEST_PORT:
        raise LtxFlowsError(f"--port {port}: ports are 1 to {LARGEST_PORT}, and --port 0 takes a free one")


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to.

    Raises:
        LtxFlowsError: the port is taken or not for us, or the host is none of this machine's.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        raise LtxFlowsError(_cannot_listen(host, port, error)) from error


def _cannot_listen(host: str, port: int, error: Exception) -> str:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken; end what listens there, or --port 0 takes a free one"
        case errno.EACCES:
            return f"port {port} is the administrator's; take one from 1024 on, or --port 0 takes a free one"
    reason = getattr(error, "strerror", None) or str(error)
    return f"cannot listen on {host}: {reason}; --host takes an address of this machine, 0.0.0.0 all of them"


def allow_many_connections() -> None:
    """Let this process have as many files and connections open as it may ask for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

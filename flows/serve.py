"""`ltx-flows serve`: Prefect server, deployments, a worker and the HTTP API, together and until Ctrl-C.

All of it ends with this process, even if that is killed: the worker is bound to it, and the server ends with its last
user. What was queued stays queued; what was running goes on with the next `serve`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import uvicorn

from flows.certificate import ANYWHERE, self_signed
from flows.server import entrance, prefect_server
from flows.worker import worker_name, working
from schemas.errors import LtxFlowsError, ServerUnavailable
from schemas.settings import settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECONDS_FOR_LAST_ANSWERS = 3
DEPLOY_SECONDS = 120


@dataclass(frozen=True)
class Serving:
    """Where the API listens, and with which certificate."""

    host: str = "127.0.0.1"
    port: int = 8484
    self_signed: bool = False
    certificate: Path | None = None
    key: Path | None = None

    @property
    def reached_at(self) -> str:
        host = "localhost" if self.host in (*ANYWHERE, *LOOPBACK) else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.self_signed or self.certificate else 'http'}://{self.reached_at}"


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""


def serve(serving: Serving, out: TextIO) -> None:
    """Serve until somebody ends it.

    Raises:
        LtxFlowsError: anybody could start runs from elsewhere.
        ServerUnavailable: another `serve` uses this HOME, or a part does not start.
        OSError: the port is taken.
    """
    keys = settings().api_keys.get_secret_value()
    if serving.host not in LOOPBACK and not keys:
        raise LtxFlowsError(f"others reach {serving.host}: set LTX_FLOWS_API_KEYS, or listen on {LOOPBACK[0]}")
    for ended in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended, _stop)
    alone = "PREFECT_API_URL" not in os.environ
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with suppress(Stopped), _only_one(), socket.create_server((serving.host, serving.port), family=family) as door:
        at = replace(serving, port=door.getsockname()[1])
        with prefect_server():
            _serve(at, door, alone, out)
    out.write("ltx-flows: ended; what was queued or running goes on with the next `serve`\n")


def _serve(serving: Serving, door: socket.socket, alone: bool, out: TextIO) -> None:
    from flows.deployments import pool_name  # noqa: PLC0415  # Prefect reads its environment on import
    from flows.recovery import recover  # noqa: PLC0415

    _deploy()
    log = settings().home_folder / "server" / "worker.log"
    with working(pool_name(), log, partial(recover, pool_name(), worker_name(), alone=alone)):
        _serve_api(serving, door, lambda: print(greeting(serving, log), file=out, flush=True))


def _deploy() -> None:
    """In a process of its own: it imports torch to read the flows, and this one lives long."""
    command = [sys.executable, "-m", "flows.deployments", "process"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEPLOY_SECONDS, check=False)
    if done.returncode:
        raise ServerUnavailable(f"the deployments could not be made: {done.stderr.strip().splitlines()[-1]}")


def _serve_api(serving: Serving, door: socket.socket, announce: Callable[[], None]) -> None:
    from flows.service.app import create_app  # noqa: PLC0415

    certificate, key = serving.certificate, serving.key
    if serving.self_signed:
        certificate, key = self_signed(settings().home_folder / "tls", (serving.host,))
    config = uvicorn.Config(
        create_app(),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SECONDS_FOR_LAST_ANSWERS,
    )
    _Api(config, announce).run(sockets=[door])


class _Api(uvicorn.Server):
    """uvicorn that says when it is open."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self.announce()


def greeting(serving: Serving, log: Path) -> str:
    """What to open and what to export."""
    lines = [
        f"history   {serving.url}/",
        f"API       {serving.url}/docs",
        f"Prefect   {entrance()}",
        f"worker    {worker_name()}, one run at a time; its log is {log}",
        "",
    ]
    if not serving.url.startswith("https"):
        return "\n".join(
            [*lines, "fal's clients insist on https: serve with --tls-self-signed, or with a certificate."]
        )
    exports = {"FAL_QUEUE_RUN_HOST": serving.reached_at, "FAL_KEY": "one-of-LTX_FLOWS_API_KEYS"}
    if serving.self_signed:
        exports["SSL_CERT_FILE"] = str(settings().home_folder / "tls" / "authorities.pem")
    return "\n".join([*lines, "For fal's clients:", *(f"  export {name}={value}" for name, value in exports.items())])


@contextmanager
def _only_one() -> Iterator[None]:
    """One `serve` per HOME, so that a worker of its name lives only as its child."""
    folder = settings().home_folder / "server"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "serve", os.O_CREAT | os.O_RDWR)
    try:
        flock(handle, LOCK_EX | LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ServerUnavailable(f"`ltx-flows serve` runs already with HOME {settings().home_folder}") from error
    finally:
        os.close(handle)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End; a second Ctrl-C does not interrupt what the first one has begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped

"""`ltx-flows serve`: Prefect server, deployments, a worker and the HTTP API, together and until Ctrl-C.

All parts end with this process, even if it is killed: the worker is bound to it, and the server ends with its last
user. Queued runs stay queued; runs in progress go on with the next `serve`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO
from urllib.parse import urlsplit

import uvicorn

from flows.hosting.certificate import ANYWHERE, check_files, self_signed
from flows.hosting.prefect_app import LOOPBACK
from flows.hosting.prefect_server import entrance, prefect_server
from flows.hosting.worker import worker_name, working
from flows.service.connections import allow_many_connections, check_address, guarded, listen
from models.ltx2.bundle import RANDOM_WEIGHTS, is_tiny
from schemas.errors import LtxFlowsError, ServerUnavailable
from schemas.settings import settings
from tasks.storage.home import private_home
from tasks.storage.locks import try_lock

DEPLOY_SECONDS = 120


@dataclass(frozen=True)
class Serving:
    """Address of the API, and its certificate."""

    host: str = "127.0.0.1"
    port: int = 8484
    self_signed: bool = False
    certificate: Path | None = None
    key: Path | None = None

    @property
    def reached_at(self) -> str:
        if self.host in (*ANYWHERE, *LOOPBACK):
            return f"localhost:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """URL at which clients reach the API: the reverse proxy's, if there is one."""
        scheme = "https" if self.self_signed or self.certificate else "http"
        return settings().public_url.rstrip("/") or f"{scheme}://{self.reached_at}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names that our own certificate is for, besides this machine's."""
        told = settings()
        more = (*told.allowed_hosts.split(","), urlsplit(told.public_url).hostname or "")
        return (self.host, *(name.strip() for name in more if "*" not in name))


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""


def serve(serving: Serving, out: TextIO) -> None:
    """Serve until somebody ends it.

    Raises:
        LtxFlowsError: the port, the host or the certificate cannot be used, or anybody could start runs from elsewhere.
        ServerUnavailable: another `serve` uses this HOME, or a part does not start.
    """
    _check(serving)
    allow_many_connections()
    for ended in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended, _stop)
    alone = "PREFECT_API_URL" not in os.environ
    with suppress(Stopped), _only_one(), listen(serving.host, serving.port) as door:
        at = replace(serving, port=door.getsockname()[1])
        with prefect_server():
            _serve(at, door, alone, out)
    out.write("ltx-flows: ended; what was queued or running goes on with the next `serve`\n")


def _check(serving: Serving) -> None:
    """Refuse settings that cannot work, before anything is started."""
    check_address(serving.host, serving.port)
    if bool(serving.certificate) != bool(serving.key):
        raise LtxFlowsError("--tls-cert and --tls-key go together")
    if serving.certificate and serving.key:
        if serving.self_signed:
            raise LtxFlowsError("--tls-self-signed makes a certificate: leave it out, or --tls-cert and --tls-key")
        check_files(serving.certificate, serving.key)


def _serve(serving: Serving, door: socket.socket, alone: bool, out: TextIO) -> None:
    from flows.hosting.deployments import pool_name  # noqa: PLC0415  # Prefect reads its environment on import
    from flows.hosting.recovery import recover  # noqa: PLC0415

    _deploy()
    log = settings().home_folder / "server" / "worker.log"
    with working(pool_name(), log, partial(recover, pool_name(), worker_name(), alone=alone)):
        _serve_api(serving, door, lambda: print(greeting(serving, log), file=out, flush=True))


def _deploy() -> None:
    """Deploy in another process, which imports torch to read the flows: this one lives long."""
    command = [sys.executable, "-P", "-m", "flows.hosting.deployments", "process"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEPLOY_SECONDS, check=False)
    if done.returncode:
        raise ServerUnavailable(f"the deployments could not be made: {done.stderr.strip().splitlines()[-1]}")


def _serve_api(serving: Serving, door: socket.socket, announce: Callable[[], None]) -> None:
    from flows.service.app import create_app  # noqa: PLC0415

    certificate, key = serving.certificate, serving.key
    if serving.self_signed:
        certificate, key = self_signed(settings().home_folder / "tls", serving.names)
    config = guarded(create_app(names=serving.names), ssl_certfile=certificate, ssl_keyfile=key)
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
    """Text for the terminal: the URLs to open and the variables to export."""
    warning = [RANDOM_WEIGHTS, ""] if is_tiny(settings().base_model) else []
    lines = [
        *warning,
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
    host = serving.url.partition("://")[2]
    exports = {"FAL_RUN_HOST": f"{host}/run", "FAL_QUEUE_RUN_HOST": host, "FAL_KEY": "one-of-LTX_FLOWS_API_KEYS"}
    if serving.self_signed:
        folder = settings().home_folder / "tls"
        exports |= {"SSL_CERT_FILE": f"{folder}/authorities.pem", "NODE_EXTRA_CA_CERTS": f"{folder}/authority.pem"}
    return "\n".join([*lines, "For fal's clients:", *(f"  export {name}={value}" for name, value in exports.items())])


@contextmanager
def _only_one() -> Iterator[None]:
    """One `serve` per HOME, so that a worker of its name lives only as its child."""
    folder = private_home() / "server"
    folder.mkdir(exist_ok=True, mode=0o700)
    handle = try_lock(folder / "serve")
    if handle is None:
        raise ServerUnavailable(f"`ltx-flows serve` runs already with HOME {settings().home_folder}")
    try:
        yield
    finally:
        os.close(handle)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Raise Stopped; a second Ctrl-C does not interrupt the end that the first one has begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped

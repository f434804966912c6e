"""The keeper of one HOME's Prefect server, until no run uses it: `python -m flows.hosting.keeper HOME/server`.

A server that ends before that is started again at the same address: runs, workers and the API wait for it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from flows.bound import die_with_parent
from flows.hosting.prefect_server import (
    ADDRESS,
    PASSWORD,
    POLL_SECONDS,
    auth_string,
    healthy,
    prefect_environment,
)
from schemas.settings import settings
from tasks.storage.locks import lock

STOP_SECONDS = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before the server is started again
STEADY_SECONDS = 60.0  # after so long without an end it starts again at once


class Keeper:
    """The server of one folder, and its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door, port = _usual_port(folder / "port")
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = os.environ | prefect_environment() | _server_environment(folder, port, self.url)
        self.command = [sys.executable, "-P", "-m", "flows.hosting.prefect_app", str(port)]
        self.server = self._start()

    def keep(self) -> None:
        """Return when nobody uses the server any more, or when it cannot even be started once."""
        unused = threading.Event()
        while not healthy(self.url):
            if self.server.poll() is not None:
                return
            time.sleep(POLL_SECONDS)
        (self.folder / "url").write_text(self.url)
        threading.Thread(target=self._wait_for_users, args=(unused,), daemon=True).start()
        pause = FIRST_PAUSE
        started = time.monotonic()
        while not unused.wait(POLL_SECONDS):
            if self.server.poll() is None:
                continue
            pause = FIRST_PAUSE if time.monotonic() - started > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE)
            print(f"the server ended ({self.server.returncode}); another one in {pause:.1f} s", flush=True)
            if unused.wait(pause):
                return
            self.server, started = self._start(), time.monotonic()

    def stop(self) -> None:
        """End the server and what it has started."""
        for sign in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(STOP_SECONDS)
                return

    def _wait_for_users(self, unused: threading.Event) -> None:
        lock(self.folder / "users")  # held until the process ends: newcomers wait, then start their own
        (self.folder / "url").unlink(missing_ok=True)
        unused.set()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            env=self.environment,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # it takes no lock
        )


def _server_environment(folder: Path, port: int, url: str) -> dict[str, str]:
    known_as = auth_string(folder)
    ours = {
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": known_as,
        ADDRESS: url,
        PASSWORD: known_as,
        "PREFECT_UI_API_URL": "/api",  # by whatever name and port a browser has come, through a tunnel too
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",  # a run that waits for its turn is not late
    }
    if database := settings().prefect_database_url.get_secret_value():
        kind, _, where = database.partition("://")
        ours["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"{_driver(kind)}://{where}"
    return ours


def _driver(kind: str) -> str:
    """Name of the asynchronous database driver that Prefect's server needs, whatever the ledger's own is."""
    return {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}.get(kind.split("+", maxsplit=1)[0], kind)


def _usual_port(remembered: Path) -> tuple[socket.socket, int]:
    """The port of last time, so that an address in a browser stays good; else a free one.

    The port is held by a socket that does not listen: while the server is started again, no other account can take its
    place and be told the password.
    """
    usual = remembered.read_text() if remembered.exists() else ""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or it would seem taken for a while
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the server of the same owner opens it, too
    try:
        door.bind(("127.0.0.1", int(usual or 0)))
    except (OSError, ValueError):  # somebody else has it now
        door.bind(("127.0.0.1", 0))
    port = int(door.getsockname()[1])
    remembered.write_text(str(port))
    return door, port


def main(folder: Path) -> None:
    """Keep the server until nobody uses it, and end it."""
    lock(folder / "keeper")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped below
    keeper = Keeper(folder)
    try:
        keeper.keep()
    finally:
        keeper.stop()
        os._exit(0)  # with the locks still held: whoever waits for them finds nothing of ours left


if __name__ == "__main__":
    main(Path(sys.argv[1]))

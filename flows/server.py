"""The Prefect server of one HOME: started by the first run, shared by all, gone with the last.

Every run holds a shared lock on HOME/server/users. The keeper (`python -m flows.server HOME`) starts the server and
then waits for that lock exclusively, which the kernel grants when no run is left, killed ones included. So nothing is
counted, nothing goes stale, and no process stays behind.
"""

import ctypes
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path

import httpx

from schemas.errors import ServerUnavailable
from schemas.settings import settings
from schemas.store_errors import DatabaseDamaged

START_SECONDS = 90
STOP_SECONDS = 20
POLL_SECONDS = 0.2
DATABASE_SETTINGS = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
SECONDS_UNTIL_KEEPER_WAKES = 1.0
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def prefect_environment() -> dict[str, str]:
    """What Prefect is told in every process of ours; whatever the user has set stays."""
    home = settings().home_folder
    ours = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ltx_flows.run",  # of waiting and sharing: to the run's page, too
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
    }
    return {name: value for name, value in ours.items() if name not in os.environ}


def prefect_url() -> str | None:
    """Where people open this process's Prefect server, inside `prefect_server`."""
    url = os.environ.get("PREFECT_API_URL")
    return url.removesuffix("/").removesuffix("/api") if url else None


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API's URL: PREFECT_API_URL's server, or this HOME's own for as long as it is used.

    Raises:
        ServerUnavailable: it cannot be reached, or does not start.
        DatabaseDamaged: its database is cut or garbled.
    """
    os.environ.update(prefect_environment())
    if given := os.environ.get("PREFECT_API_URL"):
        if not healthy(given):
            raise ServerUnavailable(
                f"no Prefect server answers at PREFECT_API_URL={given}; start it or unset the variable"
            )
        yield given
        return
    folder = settings().home_folder / "server"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "door", LOCK_EX):  # one at a time looks whether there is a server, and starts it
        users = _lock(folder / "users", LOCK_SH)  # waits while a keeper is closing down
        url = _running(folder) or _start(folder)
    os.environ["PREFECT_API_URL"] = url
    try:
        yield url
    finally:
        del os.environ["PREFECT_API_URL"]
        os.close(users)
        _wait_if_last(folder)


def _wait_if_last(folder: Path) -> None:
    """Stay until the server has ended, if nobody else uses it: then nothing of ours runs when the command is done."""
    deadline = time.monotonic() + SECONDS_UNTIL_KEEPER_WAKES
    while time.monotonic() < deadline:
        if not (folder / "url").exists():
            with _locked(folder / "users", LOCK_SH):  # granted when the keeper has ended
                return
        time.sleep(0.05)


def _running(folder: Path) -> str | None:
    try:
        url = (folder / "url").read_text()
    except FileNotFoundError:
        return None
    return url if healthy(url) else None


def _check_database() -> None:
    """Notice a database that is cut or garbled, of which the server would answer with errors.

    Raises:
        DatabaseDamaged: what is lost with it, and what to type.
    """
    path = settings().home_folder / "prefect" / "prefect.db"
    if any(name in os.environ for name in DATABASE_SETTINGS) or not path.exists() or not path.stat().st_size:
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise DatabaseDamaged(
            f"Prefect's database {path} is damaged ({found}): the history, logs and schedules of runs are lost with "
            f"it, results and bills are not; type: mv {path.parent} {path.parent}.damaged, then run again"
        )


def _start(folder: Path) -> str:
    """Start a keeper, which outlives this process while others use the server, and wait until it is open."""
    _check_database()
    (folder / "url").unlink(missing_ok=True)
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "flows.server", str(folder)]
        keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and keeper.poll() is None:
        if url := _running(folder):
            return url
        time.sleep(POLL_SECONDS)
    keeper.terminate()
    raise ServerUnavailable(f"the Prefect server did not start; see {folder / 'server.log'}")


def keep(folder: Path) -> None:
    """Run the server until no run uses it any more."""
    port = _usual_port(folder / "port")
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | prefect_environment() | {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_API_URL": url}
    environment |= {
        "PREFECT_UI_API_URL": "/api",  # by whatever name and port a browser has come, through a tunnel too
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",  # a run that waits for its turn is not late
    }
    command = [sys.executable, "-m", "flows.prefect_app", str(port)]
    server = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509  # one thread
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped below
    try:
        while not healthy(url):
            if server.poll() is not None:
                return
            time.sleep(POLL_SECONDS)
        (folder / "url").write_text(url)
        with _locked(folder / "users", LOCK_EX):  # from here on newcomers wait, then start their own
            (folder / "url").unlink(missing_ok=True)
            _stop(server)
            os._exit(0)  # with the lock still held: whoever waits for it finds nothing of ours left
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and what it has started."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
            return


def _die_with_parent() -> None:
    """Let the kernel end the server if the keeper itself is killed. Linux only; elsewhere it stays."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def healthy(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def _usual_port(remembered: Path) -> int:
    """The port of last time, so that an address in a browser stays good; else a free one."""
    usual = remembered.read_text() if remembered.exists() else ""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or it would seem taken for a while
        try:
            probe.bind(("127.0.0.1", int(usual or 0)))
        except OSError:  # somebody else has it now
            probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    remembered.write_text(str(port))
    return port


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    handle = _lock(path, kind)
    try:
        yield
    finally:
        os.close(handle)


def _lock(path: Path, kind: int) -> int:
    """A kernel lock on a file; closing the handle, or the end of the process, frees it. Not inherited by children."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    flock(handle, kind)
    return handle


if __name__ == "__main__":
    keep(Path(sys.argv[1]))

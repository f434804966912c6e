"""The Prefect server of one HOME: started by the first run, shared by all, gone with the last.

Every run holds a shared lock on HOME/server/users, and the keeper (keeper.py), which looks after the server itself,
waits for that lock exclusively: the kernel grants the lock when no run is left, killed ones included. So nothing is
counted, nothing goes stale, and no process stays behind.

Anybody who reaches the server may have it run programs as its owner. So the server listens on loopback, answers only
the pages that it serves itself, and asks for a password, made once per HOME and readable by its owner alone.
"""

import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx

from schemas.errors import DatabaseDamaged, ServerUnavailable
from schemas.settings import settings
from tasks.storage.home import private_home
from tasks.storage.locks import LOCK_SH, is_free, lock, locked

START_SECONDS = 90
POLL_SECONDS = 0.2
DATABASE_SETTINGS = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
ADDRESS, PASSWORD = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"
SECONDS_BETWEEN_KEEPERS = 2.0
SECONDS_UNTIL_KEEPER_WAKES = 1.0


def prefect_environment() -> dict[str, str]:
    """Prefect's environment variables in every process of ours; variables that the user has set stay."""
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
    """URL at which people open this process's Prefect server, inside `prefect_server`."""
    url = os.environ.get(ADDRESS)
    return url.removesuffix("/").removesuffix("/api") if url else None


def entrance() -> str | None:
    """`prefect_url` with the password of this HOME's own server; the opened page keeps it, and no server is told."""
    url = prefect_url()
    if url is None or _running(settings().home_folder / "server") != os.environ[ADDRESS]:
        return url
    return f"{url}/enter#{b64encode(os.environ[PASSWORD].encode()).decode()}"


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API's URL: PREFECT_API_URL's server, or this HOME's own, kept up for the `with` block.

    Raises:
        ServerUnavailable: it cannot be reached, or does not start.
        DatabaseDamaged: its database is cut or garbled.
    """
    private_home()
    os.environ.update(prefect_environment())
    if given := os.environ.get(ADDRESS):
        if not healthy(given):
            raise ServerUnavailable(
                f"no Prefect server answers at PREFECT_API_URL={given}; start it or unset the variable"
            )
        yield given
        return
    folder = settings().home_folder / "server"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / "door"):  # one at a time looks whether there is a server, and starts it
        users = lock(folder / "users", LOCK_SH)  # waits while a keeper is closing down
        known_as = auth_string(folder)
        url = _kept(folder) or _start(folder)
    before = os.environ.get(PASSWORD)
    os.environ |= {ADDRESS: url, PASSWORD: known_as}
    unused = threading.Event()
    threading.Thread(target=_replace_keepers, args=(folder, unused), name="keeper", daemon=True).start()
    try:
        yield url
    finally:
        unused.set()
        del os.environ[ADDRESS], os.environ[PASSWORD]
        if before is not None:
            os.environ[PASSWORD] = before
        os.close(users)
        _wait_if_last(folder)


def auth_string(folder: Path) -> str:
    """User and password of this HOME's server, in Prefect's form; made when first needed."""
    path = folder / "password"
    if not path.exists() or not path.stat().st_size:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return f"ltx:{path.read_text()}"


def healthy(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def _kept(folder: Path) -> str | None:
    """URL of the server that a keeper looks after, which may be restarting it just now; None where there is none."""
    deadline = time.monotonic() + START_SECONDS
    while _has_keeper(folder):
        if url := _running(folder):
            return url
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"the Prefect server does not answer; see {folder / 'server.log'}")
        time.sleep(POLL_SECONDS)
    return None


def _replace_keepers(folder: Path, unused: threading.Event) -> None:
    """Start another keeper where the last one was killed; the server then comes back at the same address."""
    while not unused.wait(SECONDS_BETWEEN_KEEPERS):
        if _has_keeper(folder):
            continue
        with suppress(ServerUnavailable, DatabaseDamaged), locked(folder / "door"):
            if not unused.is_set() and not _has_keeper(folder):
                _start(folder)


def _has_keeper(folder: Path) -> bool:
    """Whether a keeper lives: a keeper holds this lock for as long as it lives."""
    keeper = folder / "keeper"
    return keeper.exists() and not is_free(keeper)


def _running(folder: Path) -> str | None:
    try:
        url = (folder / "url").read_text()
    except FileNotFoundError:
        return None
    return url if healthy(url) else None


def _start(folder: Path) -> str:
    """Start a keeper, which outlives this process while others use the server, and wait until it is open."""
    _check_database()
    (folder / "url").unlink(missing_ok=True)
    with (folder / "server.log").open("a") as log:
        command = [sys.executable, "-P", "-m", "flows.hosting.keeper", str(folder)]
        keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and keeper.poll() is None:
        if url := _running(folder):
            return url
        time.sleep(POLL_SECONDS)
    keeper.terminate()
    raise ServerUnavailable(f"the Prefect server did not start; see {folder / 'server.log'}")


def _check_database() -> None:
    """Refuse a database that is cut or garbled, of which the server would answer with errors.

    Raises:
        DatabaseDamaged: what is lost with it, and what to type.
    """
    path = settings().home_folder / "prefect" / "prefect.db"
    elsewhere = settings().prefect_database_url.get_secret_value() or any(map(os.environ.get, DATABASE_SETTINGS))
    if elsewhere or not path.exists() or not path.stat().st_size:
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


def _wait_if_last(folder: Path) -> None:
    """Wait until the server has ended, if nobody else uses it: then nothing of ours runs when the command is done."""
    deadline = time.monotonic() + SECONDS_UNTIL_KEEPER_WAKES
    while time.monotonic() < deadline:
        if not (folder / "url").exists():
            with locked(folder / "users", LOCK_SH):  # granted when the keeper has ended
                return
        time.sleep(0.05)

"""The worker of one `serve`: takes one run at a time, is started again when it ends, and leaves nothing behind.

It is ended by killing it: a run that is killed goes on from its cache and its checkpoint, and there is but one way.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import psutil

from flows.bound import PARENT
from schemas.settings import settings

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BEFORE_ANOTHER = 5.0
SECONDS_TO_END = 20.0


def worker_name() -> str:
    """One per machine and HOME; what the worker holds carries this name on the server."""
    return f"{socket.gethostname()}-{sha256(str(settings().home_folder).encode()).hexdigest()[:8]}"


@contextmanager
def working(pool: str, log: Path, recover: Callable[[], object]) -> Iterator[None]:
    """A worker for the pool, for as long as this lasts. `recover` is called whenever none lives."""
    stopping = threading.Event()
    thread = threading.Thread(target=_keep_working, args=(pool, log, recover, stopping), name="worker")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _keep_working(pool: str, log: Path, recover: Callable[[], object], stopping: threading.Event) -> None:
    """One thread starts it, looks after it and ends it, so that nobody ends what another is starting."""
    _try(recover, stopping)
    while not stopping.is_set():
        worker = _start(pool, log)
        while worker.poll() is None and not stopping.wait(SECONDS_BETWEEN_LOOKS):
            pass
        _end(worker)
        _try(recover, stopping)
        stopping.wait(SECONDS_BEFORE_ANOTHER)


def _start(pool: str, log: Path) -> subprocess.Popen[bytes]:
    """Start it bound to this process, and out of reach of the terminal's Ctrl-C."""
    worker = [sys.executable, "-m", "flows.bound", "prefect", "worker", "start"]
    command = [*worker, "--type", "process", "--pool", pool, "--name", worker_name(), "--limit", "1"]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # its runs start with `python`
    usual = {
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # else a run waits up to 15 s for somebody to look
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin starve each other where cores are shared
    }
    return usual | os.environ | {"PATH": programs, PARENT: str(os.getpid())}


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill it, and wait until its run and all that the run has started are gone, too."""
    try:
        tree = psutil.Process(worker.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + SECONDS_TO_END
    while not all(map(_ended, tree)):
        time.sleep(SECONDS_BETWEEN_LOOKS)
        if time.monotonic() > deadline:
            for process in tree:
                process.kill()


def _ended(process: psutil.Process) -> bool:
    """Whether it does nothing any more, be there somebody who takes note of it or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _try(recover: Callable[[], object], stopping: threading.Event) -> None:
    """Until the server answers; if it does so no more, the next `serve` does it."""
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        try:
            recover()
            return
        except httpx.HTTPError:
            stopping.wait(SECONDS_BEFORE_ANOTHER)

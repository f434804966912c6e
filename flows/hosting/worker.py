"""The worker of one `serve`: takes one run at a time, is restarted when it ends, and leaves nothing behind.

The worker is ended by killing it: a killed run goes on from its cache and its checkpoint, and so there is but one way.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import httpx
import psutil

from flows.bound import PARENT
from schemas.settings import settings

log = logging.getLogger("ltx_flows.service")
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BEFORE_ANOTHER = 5.0
SECONDS_TO_END = 20.0


def worker_name() -> str:
    """Name of the worker, one per machine and HOME; runs that the worker holds carry this name on the server."""
    return f"{socket.gethostname()}-{sha256(str(settings().home_folder).encode()).hexdigest()[:8]}"


@contextmanager
def working(pool: str, log_file: Path, recover: Callable[[], object]) -> Iterator[None]:
    """Keep a worker for the pool during the `with` block. `recover` is called whenever none lives."""
    stopping = threading.Event()
    thread = threading.Thread(target=_keep_working, args=(pool, log_file, recover, stopping), name="worker")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _keep_working(pool: str, log_file: Path, recover: Callable[[], object], stopping: threading.Event) -> None:
    """Start, look after and end the worker in one thread, so that nobody ends a worker that another is starting."""
    _try(recover, stopping)
    while not stopping.is_set():
        worker = _start(pool, log_file)
        while worker.poll() is None and not stopping.wait(SECONDS_BETWEEN_LOOKS):
            pass
        _end(worker)
        _try(recover, stopping)
        stopping.wait(SECONDS_BEFORE_ANOTHER)


def _start(pool: str, log_file: Path) -> subprocess.Popen[bytes]:
    """Start the worker bound to this process, and out of reach of the terminal's Ctrl-C."""
    worker = [sys.executable, "-P", "-m", "flows.bound", "prefect", "worker", "start"]
    command = [*worker, "--type", "process", "--pool", pool, "--name", worker_name(), "--limit", "1"]
    with log_file.open("ab") as file:
        return subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # its runs start with `python`
    usual = {
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # else a run waits up to 15 s for somebody to look
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_PLUGINS_ENABLED": "true",  # it waits for a server that is away (patience.py)
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin starve each other where cores are shared
    }
    return usual | os.environ | {"PATH": programs, PARENT: str(os.getpid())}


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker, and wait until its run and that run's processes are gone, too; but not for ever."""
    tree = _tree(worker)
    worker.kill()
    if _gone(worker, tree):
        return
    for process in tree:
        with suppress(psutil.Error):  # gone meanwhile, or not ours to end
            process.kill()
    if not _gone(worker, tree):
        log.warning("processes %s do not end although they were killed; left alone", _living(worker, tree))


def _tree(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All processes that the worker has started, and their descendants."""
    try:
        return list(psutil.Process(worker.pid).children(recursive=True))
    except psutil.Error:
        return []


def _gone(worker: subprocess.Popen[bytes], tree: list[psutil.Process]) -> bool:
    """Whether none of the processes lives any more, soon."""
    deadline = time.monotonic() + SECONDS_TO_END
    while _living(worker, tree):
        if time.monotonic() > deadline:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def _living(worker: subprocess.Popen[bytes], tree: list[psutil.Process]) -> list[int]:
    """Ids of living processes; one that waits for the disk or the GPU's driver lives on after it was killed."""
    own = [worker.pid] if worker.poll() is None else []
    return own + [process.pid for process in tree if not _ended(process)]


def _ended(process: psutil.Process) -> bool:
    """Whether a process does nothing any more, reaped or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # somebody else's, and there
        return False


def _try(recover: Callable[[], object], stopping: threading.Event) -> None:
    """Call `recover` until the server answers; if it never does, the next `serve` recovers."""
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        try:
            recover()
            return
        except httpx.HTTPError:
            stopping.wait(SECONDS_BEFORE_ANOTHER)

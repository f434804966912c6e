"""Workers with a HOME of their own, on a Prefect server of ours: machines of a team, which can be lost."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


class Machine:
    """A worker, and the runs that it has started."""

    def __init__(self, home, settings):
        home.mkdir(exist_ok=True)
        self.home = home
        self.environment = {
            **os.environ,
            **settings,
            "LTX_FLOWS_HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
        }
        self.environment |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "LTX_FLOWS_BASE_MODEL": "tiny"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "ltx-gpu"]
        with (home / "worker.log").open("a") as log:
            self.process = subprocess.Popen([*command, "--limit", "1"], env=self.environment, stdout=log, stderr=log)

    @property
    def log(self):
        return (self.home / "worker.log").read_text()

    def tree(self):
        return [self.process.pid, *(each.pid for each in psutil.Process(self.process.pid).children(recursive=True))]

    def runs(self, module):
        """Processes of it that run a module."""
        return [pid for pid in self.tree() if any(module in word for word in words_of(pid))]

    def lose(self):
        """`kill -9` of all of it."""
        if self.process.poll() is None:
            for pid in self.tree():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def deploy(environment):
    """As `serve` does it."""
    command = [sys.executable, "-m", "flows.hosting.deployments", "process"]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def words_of(pid):
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


def until(happens, seconds=200):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.2)

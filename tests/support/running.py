"""A Prefect server that can be killed, and a process that types commands."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx

from tests.support.postgres import free_port


class Server:
    """A Prefect server that can be killed, and begun again on what it has left."""

    def __init__(self, home, database=None):
        self.home, self.port = home, free_port()
        self.environment = {**os.environ, "PREFECT_HOME": str(home / "prefect"), "LTX_FLOWS_HOME": str(home)}
        self.environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        self.environment["PREFECT_SERVER_API_PORT"] = str(self.port)
        if database:
            self.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        self.process, self.starting = None, threading.Lock()
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/api"

    def start(self):
        """Start it, unless it lives."""
        with self.starting:
            if not self.process or self.process.poll() is not None:
                self._start()

    def _start(self):
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "flows.hosting.prefect_app", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((self.home / "server.log").read_text()[-2000:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Runner:
    """The process that types commands."""

    def __init__(self, home):
        command = [sys.executable, "-m", "tests.support.crashing"]
        environment = {**os.environ, "LTX_FLOWS_HOME": str(home), "LTX_FLOWS_STORE_PATIENCE_SECONDS": "60"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        assert self.process.stdout.readline() == "ready\n"

    def run(self, home, arguments, settings, kill=None, run_id=None):
        asked = {"home": str(home), "arguments": arguments, "settings": settings, "kill": kill}
        asked |= {"continue": run_id} if run_id else {}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.communicate()

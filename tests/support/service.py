"""The real service on loopback, as `ltx-flows serve` starts it, and what there is to see of it."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.support.clips import tone, zipped

WAIT_SECONDS = 280  # a limit, not an expectation: cores may be shared
CLIENT_SECONDS = 480  # several runs one after another
SERVE = [Path(sys.executable).with_name("ltx-flows"), "serve", "--port", "0", "--tls-self-signed"]
ENDED = {"Completed", "Failed", "Rejected", "Crashed", "Cancelled"}


class Service:
    """One `ltx-flows serve`; started again with the same home it is the same installation."""

    def __init__(self, home, files):
        self.home, self.files = home, files
        self.start()

    def start(self):
        self.said = self.home.parent / "said"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(SERVE, env=self.environment, stdout=said, stderr=said)
        until(lambda: "Prefect " in self.said.read_text() or self.process.poll() is not None)
        self.urls = dict(re.findall(r"^(\w+) +(http[^\s#]+)", self.said.read_text(), re.MULTILINE))
        if not self.urls:
            self.kill()
        assert self.urls, self.said.read_text()

    def again(self):
        """A second one beside it."""
        return subprocess.run(
            SERVE, env=self.environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )

    @property
    def environment(self):
        ours = {"HOME": str(self.home), "ALLOW_FILE_ROOT": str(self.files), "ALLOW_PRIVATE_HOSTS": "true"}  # webhooks
        return os.environ | {f"LTX_FLOWS_{name}": value for name, value in ours.items()}

    def kill(self):
        """As if the machine's owner had had enough: `kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_SECONDS)

    def client(self, command):
        """What a client prints that knows of us only what `serve` has told to export."""
        said = dict(re.findall(r"export (\w+)=(\S+)", self.said.read_text()))
        told = self.environment | said
        client = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            printed, fault = client.communicate(timeout=CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            client.kill()
            fault = f"it waits for something; the worker's last words: {self.worker_log[-4000:]}"
        assert client.returncode == 0, fault
        return json.loads(printed)

    @property
    def worker_log(self):
        return (self.home / "server" / "worker.log").read_text()

    @property
    def entrance(self):
        """What opens Prefect's pages."""
        return re.search(r"^Prefect +(\S+)", self.said.read_text(), re.MULTILINE)[1]

    @property
    def pages(self):
        return self.urls["Prefect"].removesuffix("/enter")

    @property
    def prefect(self):
        return f"{self.pages}/api"

    def ask(self, path, body):
        """Prefect's server, as its own clients do: 503 says that the database was busy."""
        known_as = ("ltx", (self.home / "server" / "password").read_text())
        answers = []
        until(
            lambda: (
                answers.append(httpx.post(f"{self.prefect}/{path}", json=body, auth=known_as))
                or answers[-1].status_code != 503
            )
        )
        return answers[-1].raise_for_status().json()

    def deployment(self, function):
        """The deployment of a flow, by its name in flows/endpoints.py."""
        entries = self.ask("deployments/filter", {})
        return next(each["id"] for each in entries if each["entrypoint"] == f"flows.endpoints.{function}")

    @property
    def api(self):
        return f"{self.urls['history']}fal-ai/ltx23-trainer-v2"

    def submit(self, endpoint, request):
        """A request over HTTP; its id."""
        answer = httpx.post(f"{self.api}/{endpoint}", json=request, verify=self.trusted, timeout=60)
        return answer.raise_for_status().json()["request_id"]

    def result(self, request_id):
        """What the API has to say of a finished request."""
        url = f"{self.api}/requests/{request_id}"
        until(lambda: httpx.get(f"{url}/status", verify=self.trusted).json()["status"] == "COMPLETED")
        return httpx.get(url, verify=self.trusted)

    @property
    def trusted(self):
        return ssl.create_default_context(cafile=self.home / "tls" / "authorities.pem")

    def runs_of(self, of):
        """The Prefect run of a request, if it was started, or the one of this id."""
        either = {"operator": "or_", "id": {"any_": [of]}, "idempotency_key": {"any_": [of]}}
        return self.ask("flow_runs/filter", {"flow_runs": either})

    def run(self, of):
        """The same, as soon as there is one."""
        until(lambda: self.runs_of(of))
        return self.runs_of(of)[0]

    def finished(self, of):
        until(lambda: self.run(of)["state"]["name"] in ENDED)
        return self.run(of)

    def start_run(self, function, parameters, **more):
        """A run of a deployment, as Prefect's own clients start one; its id."""
        path = f"deployments/{self.deployment(function)}/create_flow_run"
        return self.ask(path, {"parameters": parameters} | more)["id"]

    def cancelling(self, function, request):
        """A run that is being cancelled, and no process to hear of it; its id."""
        far = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
        run_id = self.start_run(function, {"request": request}, state=far)
        for state in ("RUNNING", "CANCELLING"):
            self.ask(f"flow_runs/{run_id}/set_state", {"state": {"type": state}, "force": True})
        return run_id

    def outputs(self, run_id):
        """The folder of a run's files."""
        return self.home / "outputs" / run_id

    def artifacts(self, run_id):
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {each["key"]: each for each in found}

    def task_states(self, run_id):
        """The last state of each step."""
        runs = self.ask(
            "task_runs/filter",
            {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"},
        )
        return {run["name"]: run["state"]["name"] for run in runs}

    def bills(self):
        command = [SERVE[0], "bills", "--json"]
        return json.loads(subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout)

    def processes(self):
        """Command lines of all processes that belong to this home."""
        marker, found = f"LTX_FLOWS_HOME={self.home}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if marker in (process / "environ").read_bytes().split(b"\0") and not ended:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def trains(self):
        return any("tasks.training" in command for command in self.processes())


class Receiver:
    """The other end of a webhook."""

    def __enter__(self):
        self.heard = heard = []

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def until(happens):
    """Wait for something that has to come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def small_request(folder):
    """Two sounds, a preview, as few steps as can be billed."""
    for name, seconds in (("a.wav", 1.2), ("b.wav", 1.4), ("opening.wav", 1.0)):
        tone(folder / name, seconds)
    (folder / "sounds.zip").write_bytes(zipped({name: folder / name for name in ("a.wav", "b.wav")}))
    return {
        "training_data_url": (folder / "sounds.zip").as_uri(),
        "trigger_phrase": "hmm",
        "rank": 8,
        "number_of_steps": 100,
        "audio_duration_seconds": 1.0,
        "conditioning_seconds": 0.4,
        "validation": [{"prompt": "it goes on", "audio_url": (folder / "opening.wav").as_uri()}],
    }

"""Prefect's server or its database taken away under a training, and how the run ends."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support.chains import Server, path_of, requests_in
from tests.support.machines import Machine, deploy, until
from tests.support.postgres import another

NAME = "audio-extend-prefix"
PROGRAM = Path(sys.executable).with_name("ltx-flows")
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "Rejected")
LONGEST_RUN = 600.0  # seconds, after all is there again
SECONDS_TO_BE_CRASHED = 30.0  # a run that crashed is let go on by the server in less


class Worker(Machine):
    """As one of a team is started: it looks for runs, and gives up, no sooner than Prefect has it."""

    def __init__(self, home, environment):
        self.home, self.environment = home, {**environment, "PREFECT_PLUGINS_ENABLED": "true"}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "ltx-gpu"]
        with (home / "worker.log").open("a") as log:
            self.process = subprocess.Popen([*command, "--limit", "1"], env=self.environment, stdout=log, stderr=log)


class Site:
    """A Prefect server, a worker, and what they keep: in files, or all of it in databases of PostgreSQL."""

    def __init__(self, folder, steps, postgresql=None):
        self.folder, self.worker = folder, None
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        prefect, ledger = None, {}
        if postgresql:
            mark = uuid4().hex
            prefect = another(postgresql, f"prefect_{mark}").replace("psycopg", "asyncpg")
            ledger = {"LTX_FLOWS_DATABASE_URL": another(postgresql, f"ledger_{mark}")}
        self.body = body_of(folder / "files", steps)
        self.server = Server(folder / "server", prefect)
        self.environment = {**os.environ, **ledger, "LTX_FLOWS_HOME": str(self.home), "LTX_FLOWS_BASE_MODEL": "tiny"}
        self.environment |= {"LTX_FLOWS_ALLOW_FILE_ROOT": str(folder), "LTX_FLOWS_STORE_PATIENCE_SECONDS": "300"}
        self.environment |= {"PREFECT_API_URL": self.server.url, "PREFECT_HOME": str(self.home / "prefect")}
        self.environment["PATH"] = f"{PROGRAM.parent}:{os.environ['PATH']}"  # runs are started as `python`

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.worker:
            self.worker.lose()
        self.server.kill()

    def start_run(self):
        """As a person starts one on Prefect's pages; its id. The worker comes after it, and so finds it at once."""
        deploy(self.environment)
        deployment = self.ask("GET", f"deployments/name/{NAME}/{NAME}")["id"]
        made = self.ask("POST", f"deployments/{deployment}/create_flow_run", {"parameters": {"request": self.body}})
        self.worker = Worker(self.home, self.environment)
        return made["id"]

    def ask(self, method, path, body=None):
        """Prefect's server, as often as it takes: it may be about to find its database again."""
        answers = []
        until(lambda: self._asked(method, path, body, answers), LONGEST_RUN)
        return answers[0]

    def _asked(self, method, path, body, answers):
        try:
            answer = httpx.request(method, f"{self.server.url}/{path}", json=body, timeout=10, trust_env=False)
        except httpx.TransportError:
            return False
        if answer.is_success:
            answers.append(answer.json())
        return answer.is_success

    def begins(self):
        """Whether the run's process is there, which asks the server much before it trains."""
        return bool(self.worker.runs("prefect.engine"))

    def trains(self):
        return bool(self.worker.runs("tasks.training"))

    def learns(self):
        """Whether it has begun with its optimisation steps."""
        return self.trains() and f" of {self.body['number_of_steps']}: loss" in self.worker.log


@dataclass
class Ended:
    """How a run ended under which something was taken away."""

    states: list
    run_count: int
    bills: list
    lora: bytes = field(repr=False)
    trained: bool  # still, when all was there again
    away: float  # seconds until it was

    def faults(self, run_alone):
        """What is otherwise than if nothing had been; nothing, as a rule."""
        found = []
        if self.states[-1] != "Completed" or "Crashed" in self.states:
            found.append(f"its states: {', '.join(self.states)}")
        if self.run_count != 1:
            found.append(f"it began {self.run_count} times")
        if len(self.bills) != 1:
            found.append(f"{len(self.bills)} bills")
        if self.lora != run_alone:
            found.append("another LoRA than that of a run let alone" if self.lora else "no LoRA")
        return found


def server_away(site, seconds):
    """Prefect's server killed, and started again after so long."""
    site.server.kill()
    time.sleep(seconds)
    site.server.start()


def database_away(database, site, seconds):
    """PostgreSQL ended without a word, and started again after so long."""
    database.stop()
    time.sleep(seconds)
    database.start()


def database_silent(database, site, seconds):
    """PostgreSQL without an answer for so long."""
    database.hold()
    time.sleep(seconds)
    database.let_go()


def under_a_run(site, outage, when=Site.learns):
    """Start a run, take something away while it trains or at another time, and see how it ends."""
    run_id = site.start_run()
    until(lambda: when(site))
    since = time.monotonic()
    outage(site)
    site.ask("GET", f"flow_runs/{run_id}")
    away, trained = time.monotonic() - since, site.trains()
    until(partial(_has_ended, site, run_id), LONGEST_RUN)
    states = site.ask("GET", f"flow_run_states/?flow_run_id={run_id}")
    lora = site.home / "outputs" / run_id / "lora.safetensors"
    return Ended(
        [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])],
        site.ask("GET", f"flow_runs/{run_id}")["run_count"],
        json.loads(said(site.environment, "bills", "--json")),
        lora.read_bytes() if lora.exists() else b"",
        trained,
        away,
    )


def _has_ended(site, run_id):
    """Whether it has come to its end: one that crashed may go on, and one that lives come back."""
    state = site.ask("GET", f"flow_runs/{run_id}")["state"]
    if state["name"] == "Crashed":
        time.sleep(SECONDS_TO_BE_CRASHED)
        return site.ask("GET", f"flow_runs/{run_id}")["state"]["id"] == state["id"]
    return state["name"] in ENDS


def let_alone(folder, site):
    """The LoRA of a site's request where nothing happens: typed, in a home of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    request.write_text(json.dumps(site.body))
    environment = {**site.environment, "LTX_FLOWS_HOME": str(folder / "home")}
    environment.pop("LTX_FLOWS_DATABASE_URL", None)
    return path_of(json.loads(said(environment, "run", NAME, str(request)))["lora_file"]).read_bytes()


def said(environment, *arguments):
    """What a command of ours prints."""
    return subprocess.run([PROGRAM, *arguments], env=environment, check=True, capture_output=True, text=True).stdout


def body_of(folder, steps):
    """A request for sounds without previews, which take their time."""
    small = json.loads(requests_in(folder)[NAME].read_text())
    return small | {"number_of_steps": steps, "validation": []}

"""Parts taken away: Prefect's server or its database under a training, and any part of a `serve` in turn."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from tests.chains import Server, path_of, requests_in
from tests.machines import Machine, deploy, until, words_of
from tests.postgres import another

NAME = "audio-extend-prefix"
PROGRAM = Path(sys.executable).with_name("ltx-flows")
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "Rejected")
LONGEST_RUN = 600.0  # seconds, after all is there again
SECONDS_TO_BE_CRASHED = 30.0  # a run that crashed is let go on by the server in less

PARTS = {  # of a `serve`, and what their command lines hold
    "Prefect's server": "flows.prefect_app",
    "keeper": "flows.keeper",
    "worker": "prefect worker start",
    "run": "flows.bound prefect.engine",
    "training": "tasks.training",
    "API": "ltx-flows serve",
}
PASSING = ("run", "training")  # there only while a request is worked on
DATABASE = "database"
SECONDS_BETWEEN_LOOKS = 0.2
PATIENCE = 0.9  # of the time from one kill to the next: so long a part is waited for
LATEST_IN_ITS_LIFE = 4.0  # seconds after it was seen, a run or a training is killed


class Worker(Machine):
    """As one of a team is started: it looks for runs, and gives up, no sooner than Prefect has it."""

    def __init__(self, home, environment):
        self.home, self.environment = home, environment
        command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "ltx-gpu"]
        with (home / "worker.log").open("a") as log:
            self.process = subprocess.Popen([*command, "--limit", "1"], env=environment, stdout=log, stderr=log)


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
        deployment = self.ask("GET", f"deployments/name/{NAME}/prod")["id"]
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


# --- the parts of a `serve`


@dataclass
class Kill:
    """One part of a `serve` killed, and what that hit."""

    at: float  # seconds from the beginning
    part: str
    pids: list = field(default_factory=list)
    trained: bool = False  # a training was going at that moment
    back: float | None = None  # seconds until the part was there again

    def __str__(self):
        hit = f"killed {', '.join(map(str, self.pids))}" if self.pids else "was not there"
        under = "under a training" if self.trained else ""
        back = "" if not self.pids else "not back" if self.back is None else f"back after {self.back:.1f} s"
        return f"{self.at:6.0f} s  {self.part:16}  {hit:16}  {under:16}  {back}"


class Killer:
    """Kills the parts of a `serve` in turn, by `kill -9`, and starts again what nobody else does."""

    def __init__(self, service, database, dice, done):
        """`done`: an event, after which nothing is killed or started any more."""
        self.service, self.database, self.dice, self.done = service, database, dice, done
        self.begun, self.kills = time.monotonic(), []
        self.kept = service.home.parent / "kept.log"

    @property
    def now(self):
        return time.monotonic() - self.begun

    def kill_in_turn(self, every, seconds):
        """One part every so many seconds, for so many in all."""
        parts = cycle([*PARTS, *([DATABASE] if self.database else [])])
        for number, part in enumerate(parts, 1):
            if number * every >= seconds or self.done.wait(max(0.0, number * every - self.now)):
                return
            kill = Kill(self.now, part)
            if part == DATABASE:
                self.restart_database(kill)
            else:
                self.strike(kill, PATIENCE * every)
            if kill.pids or not self.done.is_set():
                self.kills.append(kill)

    def strike(self, kill, patience):
        """Kill a part that is there, or comes in time."""
        until = time.monotonic() + patience
        while not kill.pids and not self.done.wait(SECONDS_BETWEEN_LOOKS) and time.monotonic() < until:
            if kill.part in PASSING and part_of(self.service.home, kill.part):
                self.done.wait(self.dice.random() * LATEST_IN_ITS_LIFE)
            kill.at, kill.trained = self.now, self.service.trains()
            for process in part_of(self.service.home, kill.part):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    kill.pids.append(process.pid)
        if kill.part == "API" and kill.pids:
            self.serve_again()
        threading.Thread(target=self.await_return, args=(kill,), daemon=True).start()

    def awaits(self):
        """Whether a part that lasts is not there again."""
        return any(kill.back is None for kill in self.kills if kill.part not in PASSING)

    def restart_database(self, kill):
        """PostgreSQL, ended without a word and started again."""
        kill.trained = self.service.trains()
        kill.pids = [int(self.database.note.read_text().split()[0])]
        self.database.stop()
        self.database.start()
        kill.back = self.now - kill.at

    def serve_again(self):
        """As whatever looks after a service does, and as often as it takes."""
        self.service.process.wait()
        while not self.done.is_set():
            self.keep_logs()
            try:
                self.service.start()
                return
            except AssertionError:
                self.service.kill()

    def keep_logs(self):
        """They begin anew when `serve` does."""
        with self.kept.open("a") as kept:
            for path in (self.service.said, self.service.home / "server" / "server.log"):
                kept.write(f"--- {path.name}, until {self.now:.0f} s\n{path.read_text()}")

    def await_return(self, kill):
        """Note when the part is there again; Prefect's server, when it answers."""
        while kill.pids and kill.back is None and not self.done.wait(SECONDS_BETWEEN_LOOKS):
            there = any(process.pid not in kill.pids for process in part_of(self.service.home, kill.part))
            if there and (kill.part not in ("Prefect's server", "keeper") or self.prefect_answers()):
                kill.back = self.now - kill.at

    def prefect_answers(self):
        try:
            return httpx.get(f"{self.service.prefect}/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False


def part_of(home, name):
    """Processes of a part of an installation."""
    return [each for each in family(home) if PARTS[name] in " ".join(words_of(each.pid))]


def family(home):
    """All processes of an installation."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("LTX_FLOWS_HOME") == str(home):
                yield process

"""Parts of a `serve` killed in turn: its own processes, what it has started, and its database."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

import httpx
import psutil

from tests.support.machines import words_of

PARTS = {  # of a `serve`, and what their command lines hold
    "Prefect's server": "flows.hosting.prefect_app",
    "keeper": "flows.hosting.keeper",
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

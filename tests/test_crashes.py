"""A run that is killed at any moment goes on from what is there: the same bytes, one bill, nothing done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from schemas.settings import settings
from tasks.ledger import bills
from tasks.pruning import DAY, prune
from tests.clips import tone, zipped
from tests.crashing import STEPS

pytestmark = pytest.mark.slow(seconds=90)

HOLD_SERVER = """
import sys
from flows.server import prefect_server
with prefect_server() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class Runs:
    """A process that runs the request as often as it is told to, on one Prefect server."""

    def __init__(self, folder, process, server):
        self.folder, self.process, self.server = folder, process, server

    def run(self, home, step=None, point=0):
        arguments = ["run", "audio-extend-prefix", str(self.folder / "request.json")]
        asked = {"step": step, "point": point, "home": str(self.folder / home)}
        asked |= {"server": self.server, "arguments": arguments}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def touched(self, home):
        """How often each step touched something."""
        return json.loads((self.folder / home).with_suffix(".counts").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A request for three sounds with one preview, as small as the request layer allows."""
    folder = tmp_path_factory.mktemp("crashes")
    for name in ("a.wav", "b.wav", "c.wav", "opening.wav"):
        tone(folder / name, 0.7 + len(name) / 50, peak=0.3 + ord(name[0]) / 500)
    (folder / "sounds.zip").write_bytes(zipped({name: folder / name for name in ("a.wav", "b.wav", "c.wav")}))
    body = {
        "training_data_url": "sounds.zip",
        "rank": 8,
        "number_of_steps": 100,
        "audio_duration_seconds": 0.5,
        "conditioning_seconds": 0.2,
        "validation": [{"prompt": "on", "audio_url": "opening.wav"}],
    }
    (folder / "request.json").write_text(json.dumps(body))
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    environment = {**os.environ, "LTX_FLOWS_HOME": str(folder / "server")}
    server = subprocess.Popen(
        [sys.executable, "-c", HOLD_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    runner = subprocess.Popen(
        [sys.executable, "-m", "tests.crashing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    url = server.stdout.readline().strip()
    assert runner.stdout.readline() == "ready\n"
    yield Runs(folder, runner, url)
    for process in (runner, server):
        process.communicate()


@pytest.fixture(scope="module")
def chain(runs):
    """One uninterrupted run; and one killed once in each step, and then let go on to its end."""
    whole = runs.run("whole")
    assert whole["code"] == 0, whole["log"]
    touched, points = runs.touched("whole"), random.Random(6)
    killed = {step: runs.run("killed", step, points.randint(1, touched.get(step, 1))) for step in STEPS}
    return {"whole": whole, "killed": killed, "last": runs.run("killed"), "touched": runs.touched("killed")}


def lora_of(run):
    return Path(unquote(urlsplit(json.loads(run["out"])["lora_file"]["url"]).path)).read_bytes()


@pytest.fixture
def killed_home(runs, chain, monkeypatch):
    """The HOME of the run that was killed nine times, as this process's own."""
    monkeypatch.setenv("LTX_FLOWS_HOME", str(runs.folder / "killed"))
    settings.cache_clear()
    return runs.folder / "killed"


def test_it_is_killed_in_every_step(chain):
    assert {step: run["code"] for step, run in chain["killed"].items()} == dict.fromkeys(STEPS, -signal.SIGKILL)


def test_it_ends_in_the_bytes_of_a_run_that_was_not_killed(chain):
    assert chain["last"]["code"] == 0, chain["last"]["log"]
    assert lora_of(chain["last"]) == lora_of(chain["whole"])


def test_no_step_that_had_finished_is_done_again(chain):
    worked = {step: list(dict.fromkeys(run["worked"])) for step, run in chain["killed"].items()}
    before = dict(pairwise(reversed(STEPS)))  # the one in which the last try was killed
    again = {step: [before[step], step] if step in before else [step] for step in STEPS}
    assert worked == again | {"encode": ["fit", "download", "encode"]}  # of the preview's sound: it comes after fit


def test_killed_after_its_bill_it_is_told_again_and_neither_run_nor_billed(chain):
    assert chain["last"]["worked"] == []
    assert "had ended and was billed; this is what it made" in chain["last"]["log"]


@pytest.mark.usefixtures("killed_home")
def test_it_is_one_run_with_one_bill(chain):
    [bill] = bills()
    tries = [chain["killed"][step]["log"] for step in STEPS[1:]]
    assert all(f"continuing run {bill.run_id}" in log for log in tries)


def test_its_folder_holds_what_that_of_the_other_run_holds(chain, runs):
    holds = [
        sorted(path.name for path in (runs.folder / home / "outputs").rglob("*") if path.is_file())
        for home in ("killed", "whole")
    ]
    assert holds[0] == holds[1]


def test_pruning_takes_all_that_the_kills_have_left(killed_home, chain):
    assert list((killed_home / "tmp").iterdir()) != []
    for path in killed_home.rglob("*"):
        os.utime(path, (time.time() - 10 * DAY,) * 2)
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    left = [path for room in ("tmp", "work", "runs") for path in (killed_home / room).glob("*")]
    assert [*left, *killed_home.rglob("*.part")] == []


def test_after_pruning_the_store_still_answers_every_step_of_the_run(runs, chain):
    again = runs.run("killed")
    assert again["code"] == 0
    assert set(again["worked"]) == {"download", "upload", "bill"}  # a new run: the other one is finished

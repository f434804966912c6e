"""Runs that are killed: `python -m tests.support.crashing` imports what runs need, then forks for every line it reads.

A line is JSON: {"home", "settings", "arguments"}, and optionally {"continue": run id} and {"kill": ...}. The fork types
the command, or goes on with a run of Prefect's as a worker would. What is killed, by SIGKILL, is one of

- {"target": "tree", "step", "point"}: all of it, at the so-many-th time that a step touches a file, a process or the
  network, or at the step's end;
- {"target": "tree", "after"}: all of it, after so many seconds;
- {"target": "training" | "ffmpeg", "after"}: one program that it has started, so long after it was first seen;
- {"target": "server", "after", "pid"}: the Prefect server.

The answer is JSON: what was printed, the steps that worked, the exit code, and whether anything was killed.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import wraps
from pathlib import Path

import psutil

TOUCHES = ("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.")
STEPS = ("download", "extract", "match", "fit", "encode", "train", "validate", "upload", "bill")
PROGRAMS = {"training": ("tasks.training",), "ffmpeg": ("ffmpeg", "ffprobe")}
SECONDS_BETWEEN_LOOKS = 0.003  # ffmpeg is quick


class Killer:
    """Counts what a step touches, and kills at the point; a step that ends before it is killed at its end."""

    def __init__(self, step, point, worked):
        self.step, self.point, self.worked = step, point, worked
        self.inside = None
        self.counts = {}
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.inside and event.startswith(TOUCHES) and threading.current_thread() is threading.main_thread():
            self.counts[self.inside] = self.counts.get(self.inside, 0) + 1
            if self.inside == self.step and self.counts[self.inside] >= self.point:
                self.kill()

    def kill(self):
        self.inside = None  # killing touches a process, too
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, name, task):
        made = task.fn

        @wraps(made)
        def watched(*words, **more):
            with self.worked.open("a") as log:
                log.write(f"{name}\n")
            self.inside = name
            try:
                result = made(*words, **more)
            finally:
                self.inside = None
            if name == self.step:
                self.kill()
            return result

        task.fn = watched


def run(asked):
    """In the fork: type the command, or go on with a run."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import cli, pipeline
    from schemas.settings import settings

    home = Path(asked["home"])
    os.environ |= {"LTX_FLOWS_HOME": str(home), **asked["settings"]}
    settings.cache_clear()
    for descriptor, suffix in ((1, ".out"), (2, ".log")):
        os.dup2(os.open(home.with_suffix(suffix), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
    worked = home.with_suffix(".worked")
    worked.write_text("")
    kill = asked.get("kill") or {}
    killer = Killer(kill.get("step"), kill.get("point", 0), worked)
    for name in STEPS:
        killer.watch(name, getattr(pipeline, name))
    with temporary_settings({PREFECT_API_URL: asked["settings"]["PREFECT_API_URL"]}):
        code = go_on(asked) if "continue" in asked else cli.main(asked["arguments"])
    home.with_suffix(".counts").write_text(json.dumps(killer.counts))
    sys.exit(code)


def go_on(asked):
    """As a worker does that was given the run by `prefect flow-run retry`; the request is Prefect's own."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow_sync
    from prefect.states import Pending

    from flows.endpoints import FLOWS

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(asked["continue"]), Pending(message="retried"), force=True)
        flow_run = client.read_flow_run(UUID(asked["continue"]))
    flow = FLOWS[asked["arguments"][1]]
    state = run_flow_sync(flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
    result = state.result(raise_on_failure=False)
    print(result.model_dump_json() if state.is_completed() else repr(result))
    return 0 if state.is_completed() else 1


def hunt(kill, fork, done):
    """Kill what is asked, when it is seen."""
    if kill.get("step"):  # by the fork itself
        return
    if kill["target"] == "tree":
        done.wait(kill["after"])
        _kill_tree(fork, done, kill)
        return
    if kill["target"] == "server":
        done.wait(kill["after"])
        if not done.is_set():
            os.kill(kill["pid"], signal.SIGKILL)
            kill["killed"] = True
        return
    while not done.is_set():
        for process in _programs(fork, PROGRAMS[kill["target"]]):
            done.wait(kill["after"])
            try:
                process.kill()
                kill["killed"] = True
            except psutil.NoSuchProcess:  # it was faster: the next one
                continue
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _kill_tree(fork, done, kill):
    if done.is_set():
        return
    kill["killed"] = True
    try:
        process = psutil.Process(fork)
        for each in (process, *process.children(recursive=True)):
            each.kill()
    except psutil.NoSuchProcess:
        pass


def _programs(fork, names):
    try:
        for process in psutil.Process(fork).children(recursive=True):
            if any(name in word for word in process.cmdline()[:3] for name in names):
                yield process
    except psutil.NoSuchProcess:
        return


def main():
    """Import once, then run whatever is asked for."""
    from flows.hosting.prefect_server import prefect_environment

    os.environ.update(prefect_environment())
    import flows.endpoints
    import flows.local_run  # noqa: F401  # for its imports
    from models.ltx2 import loading as models
    from tasks.base_model import base

    place, device = base().location, models.pick_device("cpu")
    models.load_text(place, device, models.pick_dtype(device))  # what libraries import late
    models.load_audio_vae(place, device)
    models.load_vocoder(place, device)
    os.environ["LTX_FLOWS_BASE_MODEL"] = place  # built once for all homes

    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if not (child := os.fork()):
            run(asked)
        done, kill = threading.Event(), asked.get("kill") or {}
        hunter = threading.Thread(target=hunt, args=(kill, child, done)) if kill else None
        if hunter:
            hunter.start()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        done.set()
        if hunter:
            hunter.join()
        home = Path(asked["home"])
        told = {name: home.with_suffix(f".{name}").read_text() for name in ("out", "log", "worked")}
        killed = kill.get("killed", False) or code == -signal.SIGKILL
        told |= {"code": code, "worked": told["worked"].split(), "killed": killed}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

"""Runs that are killed: `python -m tests.crashing` imports once what runs need, then forks for every line it reads.

A line is JSON: {"step", "point", "home", "server", "arguments"}. The fork types the command; where a step is named, it
is killed by SIGKILL at the so-many-th time that the step touches a file, a process or the network. The answer is JSON.
"""

import json
import os
import signal
import sys
import threading
from functools import wraps
from pathlib import Path

TOUCHES = ("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.")
STEPS = ("download", "extract", "match", "fit", "encode", "train", "validate", "upload", "bill")


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
    """In the fork: type the command, with the results of steps below its own HOME."""
    from prefect.settings import PREFECT_API_URL, PREFECT_RESULTS_LOCAL_STORAGE_PATH, temporary_settings

    from flows import cli, pipeline

    home = Path(asked["home"])
    os.environ |= {"LTX_FLOWS_HOME": str(home), "PREFECT_API_URL": asked["server"]}
    for descriptor, suffix in ((1, ".out"), (2, ".log")):
        os.dup2(os.open(home.with_suffix(suffix), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
    worked = home.with_suffix(".worked")
    worked.write_text("")
    killer = Killer(asked["step"], asked["point"], worked)
    for name in STEPS:
        killer.watch(name, getattr(pipeline, name))
    places = {PREFECT_API_URL: asked["server"], PREFECT_RESULTS_LOCAL_STORAGE_PATH: home / "results"}
    with temporary_settings(places):
        code = cli.main(asked["arguments"])
    home.with_suffix(".counts").write_text(json.dumps(killer.counts))
    sys.exit(code)


def main():
    """Import once, then run whatever is asked for."""
    from flows.server import prefect_environment

    os.environ.update(prefect_environment())
    import flows.endpoints
    import flows.running  # noqa: F401  # for its imports
    from models import base as models
    from tasks.base import base

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
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        home = Path(asked["home"])
        told = {name: home.with_suffix(f".{name}").read_text() for name in ("out", "log", "worked")}
        told |= {"code": code, "worked": told["worked"].split()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

"""The training process seen from its parent: start, events, end, and the error that an end stands for."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
from pydantic import ValidationError

from schemas import errors
from schemas.errors import (
    DeviceFailed,
    DeviceFull,
    LtxFlowsError,
    TrainingFailed,
    TrainingHung,
    TrainingInterrupted,
)
from schemas.settings import settings
from tasks.training.job import EVENT, Event, Failed, Finished, Job, Retrying

TAIL_LINES = 15
SECONDS_TO_END = 20
LESS = "lower the resolution, the frames or the rank, or train on a device with more memory"
LOOK = "look at the device (`nvidia-smi`, `dmesg`); typed again, the run goes on from its checkpoint"

Told = Callable[[Event], None]


def train_in_child(job: Job, on_event: Told) -> list[Event]:
    """Run the training process; where another try may help, once more from its checkpoint.

    A fresh process each time: nothing of the last one's memory or faults is left, on one device or several. Where the
    device ran out of memory every block is recomputed.

    Raises:
        DeviceFull, DeviceFailed, TrainingHung: once more was in vain.
        TrainingInterrupted, TrainingDiverged, TrainingFailed, CheckpointMismatch: nothing to try here.
    """
    failed_before = False
    while True:
        try:
            return _run(job, on_event)
        except DeviceFull as error:
            if job.recompute_all:
                raise DeviceFull(f"{error}; {LESS}") from error
            job = job.model_copy(update={"recompute_all": True})
            on_event(Retrying(message=f"{error}; going on with all activations recomputed, which is slower"))
        except (DeviceFailed, TrainingHung) as error:
            if failed_before:
                raise type(error)(f"{error}; {LOOK}") from error
            failed_before = True
            on_event(Retrying(message=f"{error}; going on from the last checkpoint"))


def command(path: Path) -> list[str]:
    """Command line of the training process, for which a folder `models` of the working folder is not ours (-P)."""
    return [sys.executable, "-P", "-m", "tasks.training", str(path)]


def _run(job: Job, on_event: Told) -> list[Event]:
    """Start the process, pass on its events, and end it when this process is ended or it falls silent."""
    path = job.folder / "job.json"
    path.write_text(job.model_dump_json(indent=2))
    events: list[Event] = []
    tail: list[str] = []
    with subprocess.Popen(
        command(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        try:
            assert process.stdout is not None
            for line in _Lines(process.stdout, settings().training_silence_seconds):
                if event := _event(line):
                    events.append(event)
                    on_event(event)
                else:
                    tail = [*tail, line.rstrip()][-TAIL_LINES:]
            code = process.wait()
        except TrainingHung:  # it would not hear a polite signal either
            _kill(process)
            raise
        except BaseException:  # cancellation and time-outs arrive here; the process must not outlive us
            _end(process)
            raise
    return _ended(code, events, tail)


class _Lines:
    """The lines of a pipe as they come.

    Raises:
        TrainingHung: none came for too long.
    """

    def __init__(self, pipe: IO[str], longest_silence: float) -> None:
        self.longest_silence = longest_silence
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.lines.put(line)
        self.lines.put(None)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        try:
            line = self.lines.get(timeout=self.longest_silence)
        except queue.Empty as error:
            raise TrainingHung(f"the training process said nothing for {self.longest_silence:g} s") from error
        if line is None:
            raise StopIteration
        return line


def _ended(code: int, events: list[Event], tail: list[str]) -> list[Event]:
    """The events of a process that succeeded; else the error that its end stands for is raised."""
    if failed := next((event for event in events if isinstance(event, Failed)), None):  # of any of its processes
        raise _error(failed)
    if code < 0:
        raise TrainingInterrupted(f"the training process was killed by signal {-code}; it goes on from its checkpoint")
    if code or not events or not isinstance(events[-1], Finished):
        raise TrainingFailed(f"the training process ended with code {code}: {' | '.join(tail)}")
    return events


def _error(failed: Failed) -> LtxFlowsError:
    """The error that the process ended with, in the class of its cause."""
    kind = getattr(errors, failed.error, TrainingFailed)
    assert issubclass(kind, LtxFlowsError)
    return kind(failed.message)


def _event(line: str) -> Event | None:
    try:
        return EVENT.validate_json(line)
    except ValidationError:  # a library's own words: kept for the error message
        return None


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and all that it has started: each holds the other end of the pipe that is read here."""
    with suppress(psutil.NoSuchProcess):
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        _kill(process)

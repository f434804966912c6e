"""The training process seen from outside: started, listened to, ended, and its end turned into an error."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from schemas import errors
from schemas.errors import DeviceFull, LtxFlowsError, TrainingFailed, TrainingInterrupted
from tasks.job import EVENT, Event, Failed, Finished, Job, Retrying

TAIL_LINES = 15
SECONDS_TO_END = 20
LESS = "lower the resolution, the frames or the rank, or train on a device with more memory"


def run_with_less_memory_if_needed(job: Job, on_event: Callable[[Event], None]) -> list[Event]:
    """Run the process; where the device runs out of memory, once more from its checkpoint, recomputing every block.

    A fresh process: nothing of the first one's memory is left, on one device or several.
    """
    try:
        return _run(job, on_event)
    except DeviceFull as error:
        on_event(Retrying(message=f"{error}; going on with all activations recomputed, which is slower"))
    try:
        return _run(job.model_copy(update={"recompute_all": True}), on_event)
    except DeviceFull as error:
        raise DeviceFull(f"{error}; {LESS}") from error


def command(path: Path) -> list[str]:
    """The command of the training process."""
    return [sys.executable, "-m", "tasks.training", str(path)]


def _run(job: Job, on_event: Callable[[Event], None]) -> list[Event]:
    """Start the process, pass on what it says, and end it when we are ended."""
    path = job.folder / "job.json"
    path.write_text(job.model_dump_json(indent=2))
    events: list[Event] = []
    tail: list[str] = []
    with subprocess.Popen(
        command(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if event := _event(line):
                    events.append(event)
                    on_event(event)
                else:
                    tail = [*tail, line.rstrip()][-TAIL_LINES:]
            code = process.wait()
        except BaseException:  # cancellation and time-outs arrive here; the process must not outlive us
            _end(process)
            raise
    if failed := next((event for event in events if isinstance(event, Failed)), None):  # of any of its processes
        raise _error(failed)
    if code < 0:
        raise TrainingInterrupted(f"the training process was killed by signal {-code}; it goes on from its checkpoint")
    if code or not events or not isinstance(events[-1], Finished):
        raise TrainingFailed(f"the training process ended with code {code}: {' | '.join(tail)}")
    return events


def _error(failed: Failed) -> LtxFlowsError:
    """The error that the process ended with, as the class that it was there."""
    kind = getattr(errors, failed.error, TrainingFailed)
    assert issubclass(kind, LtxFlowsError)
    return kind(failed.message)


def _event(line: str) -> Event | None:
    try:
        return EVENT.validate_json(line)
    except ValidationError:  # a library's own words: kept for the error message
        return None


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()

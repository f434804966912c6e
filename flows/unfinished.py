"""A request whose run was cut off goes on as the same run when it is typed again: one folder, one bill.

HOME/runs/<sha256 of what was asked> names the Prefect run from its start until its outputs have been told; killed,
failed or interrupted in between, it stays. Whoever runs the request holds the kernel's lock on the note, so that the
same request typed twice at the same time is two runs. The note holds an id, nothing of the request.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import count
from pathlib import Path
from uuid import UUID

from schemas.errors import InputRejected
from schemas.request import TrainRequest
from schemas.settings import settings


class Unfinished:
    """The note of the run that this process works on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_id(self) -> UUID | None:
        """The run that was cut off, or None where this one is new."""
        try:
            return UUID(self.path.read_text())
        except ValueError:  # empty, or cut off while it was written: the run had not begun
            return None

    def begin(self, run_id: UUID) -> None:
        """From here on the run is the one to continue."""
        self.path.write_text(str(run_id))


@contextmanager
def unfinished(endpoint: str, request: TrainRequest) -> Iterator[Unfinished]:
    """The note of this request; it goes when the `with` block has told the outputs, or that the request is wrong."""
    folder = settings().home_folder / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    with _first_free(folder, _asked(endpoint, request)) as path:
        try:
            yield Unfinished(path)
        except InputRejected:
            path.unlink()
            raise
        path.unlink()


def _asked(endpoint: str, request: TrainRequest) -> str:
    told = settings()
    places = (told.outputs_url, told.store_url, told.ledger_url, told.base_model)
    return hashlib.sha256("\n".join((endpoint, request.model_dump_json(), *places)).encode()).hexdigest()


@contextmanager
def _first_free(folder: Path, name: str) -> Iterator[Path]:
    """The first note of the name that no living process holds."""
    for number in count():
        path = folder / f"{name}-{number}"
        handle = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            flock(handle, LOCK_EX | LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:  # not removed while we opened it
                yield path
                return
        except BlockingIOError:
            continue
        finally:
            os.close(handle)

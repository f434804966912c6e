"""A request whose run was cut off goes on as the same run when it is typed again: one folder, one bill.

HOME/runs/<sha256 of what was asked> names the run from its start until its outputs have been told; killed, failed or
interrupted in between, it stays. Whoever runs the request holds the kernel's lock on the note, so that the same request
typed twice at the same time is two runs. The note holds ids, nothing of the request.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from uuid import UUID

from schemas.rejections import InputRejected
from schemas.request import TrainRequest
from schemas.settings import settings
from tasks.storage.durable import make_folder, on_disk
from tasks.storage.locks import is_in_place, try_lock

SECONDS_TO_DIE = 5.0  # a process that was killed gives its gigabytes back first, then its locks
SECONDS_BETWEEN_LOOKS = 0.1


class Unfinished:
    """Note of the run that this process works on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def first_run(self) -> UUID | None:
        """Id of the run that was cut off, under which files are delivered and billed; None where this one is new."""
        runs = self._runs()
        return runs[0] if runs else None

    def last_run(self) -> UUID | None:
        """Id of the Prefect run to go on with: another one where Prefect has lost the first."""
        runs = self._runs()
        return runs[-1] if runs else None

    def begin(self, run_id: UUID) -> None:
        """Note a run as the one to continue from here on, also after a power cut."""
        runs = [*self._runs()[:1], run_id]
        self.path.write_text("\n".join(map(str, dict.fromkeys(runs))))
        on_disk(self.path)
        on_disk(self.path.parent)

    def _runs(self) -> list[UUID]:
        try:
            return [UUID(line) for line in self.path.read_text().splitlines()]
        except ValueError:  # cut off while it was written: the run had not begun
            return []


@contextmanager
def unfinished(endpoint: str, request: TrainRequest) -> Iterator[Unfinished]:
    """The note of this request; removed when the `with` block has told the outputs, or that the request is wrong."""
    folder = settings().home_folder / "runs"
    make_folder(folder)
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
        # not taken over while its holder dies: the same request would become a second run, and a second bill
        if (handle := _taken(path)) is None:
            continue
        try:
            if is_in_place(path, handle):
                yield path
                return
        finally:
            os.close(handle)


def _taken(path: Path) -> int | None:
    """Lock a note, once a holder that is dying has gone; None where the holder lives on."""
    deadline = time.monotonic() + SECONDS_TO_DIE
    while (handle := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return handle

"""Leftovers of killed runs in HOME: temporary folders, trainings and runs that nobody continues, old results.

A folder in use is locked by the kernel for as long as its process lives; a folder without a lock is a leftover.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schemas.settings import settings
from tasks.storage.locks import is_free
from tasks.storage.store import TEMPORARY

HOUR = 3600.0


def remove_leftovers(older_than: float, keep_runs: float) -> tuple[int, int]:
    """Remove leftovers; return the number of files and bytes removed.

    Args:
        older_than: seconds; a younger training's checkpoint may be gone on from.
        keep_runs: seconds; the results of steps and the notes of unfinished runs are kept as long as runs are.
    """
    home = settings().home_folder
    files = size = 0
    for folder in (*left(home / TEMPORARY, HOUR), *left(home / "work", max(older_than, HOUR))):
        for file in _files(folder):
            files, size = files + 1, size + file.stat().st_size
        shutil.rmtree(folder, ignore_errors=True)
    for file in (*_files(home / "results"), *_files(home / "runs")):
        if _age(file) > max(keep_runs, older_than) and is_free(file):
            files, size = files + 1, size + file.stat().st_size
            file.unlink(missing_ok=True)
    return files, size


def left(room: Path, older_than: float) -> Iterator[Path]:
    """Folders of a room that are old enough and not in use."""
    for folder in room.glob("*"):
        newest = min((_age(file) for file in _files(folder)), default=_age(folder))
        if newest > older_than and is_free(folder):
            yield folder


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _age(path: Path) -> float:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0

"""Uploads that come in parts, in any order: kept in files under HOME until they are put together."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from uuid import uuid4

from schemas.media import MediaFile
from schemas.settings import settings
from tasks.keeping import keep
from tasks.leftovers import left
from tasks.place import CHUNK
from tasks.store import file_sha256, temporary_folder

MOST_PARTS = 10_000  # S3's limit; fal's clients send parts of 10 MiB
DAY = 24 * 3600.0


def begin(upload_id: str) -> None:
    """Make room for the parts of an upload, where abandoned ones have been."""
    remove_abandoned()
    _folder(upload_id).mkdir(parents=True)


def remove_abandoned() -> None:
    """Remove the parts of uploads to which nothing has come for a day."""
    for folder in left(settings().home_folder / "uploads", DAY):
        shutil.rmtree(folder, ignore_errors=True)


def size(upload_id: str) -> int:
    """Bytes that have come, of unfinished parts, too.

    Raises:
        FileNotFoundError: there is no such upload, or it is complete. So do all functions below.
    """
    return sum(_size(path) for path in _folder(upload_id).iterdir())


@contextmanager
def arriving(upload_id: str) -> Iterator[Path]:
    """Where to write what is coming; gone afterwards, unless it was added."""
    path = _folder(upload_id) / f"{uuid4().hex}.part"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def add(path: Path, number: int) -> str:
    """Make a part of what has come, in the place of an earlier one of its number; its etag."""
    etag = file_sha256(path)
    part = path.replace(path.with_name(_name(number, etag)))
    for earlier in part.parent.glob(_name(number, "*")):
        if earlier != part:
            earlier.unlink(missing_ok=True)
    return etag


@contextmanager
def alone(upload_id: str) -> Iterator[None]:
    """Nobody else puts this upload together meanwhile, and it is not taken for abandoned."""
    handle = os.open(_folder(upload_id), os.O_RDONLY)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


def missing(upload_id: str, etags: dict[int, str]) -> list[int]:
    """Which of the parts 1, 2, ... to the last one have not come, or not with this etag."""
    there = {path.name for path in _folder(upload_id).iterdir()}
    return [n for n in range(1, max(etags) + 1) if n not in etags or _name(n, etags[n]) not in there]


def keep_joined(upload_id: str, name: str, etags: dict[int, str]) -> MediaFile:
    """Put the parts together, a piece at a time, and into the store."""
    digest = hashlib.sha256()
    with temporary_folder() as folder:
        path = folder / "upload"
        with path.open("wb") as whole:
            for number, etag in sorted(etags.items()):
                with (_folder(upload_id) / _name(number, etag)).open("rb") as part:
                    while piece := part.read(CHUNK):
                        digest.update(piece)
                        whole.write(piece)
        return keep(path, name, digest.hexdigest())


def remove(upload_id: str) -> None:
    """The parts are not needed any more."""
    shutil.rmtree(_folder(upload_id), ignore_errors=True)


def _folder(upload_id: str) -> Path:
    return settings().home_folder / "uploads" / upload_id


def _name(number: int, etag: str) -> str:
    return f"{number}-{etag}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has got its name in between
        return 0

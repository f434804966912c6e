"""Kernel locks on files and folders: each ends with its holder, however that ends, so that none is left behind.

Child processes do not inherit them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

__all__ = ["LOCK_EX", "LOCK_SH", "is_free", "is_in_place", "lock", "locked", "try_lock"]


def lock(path: Path, kind: int = LOCK_EX) -> int:
    """Wait for the lock of a file, which is made where it is missing, or of a folder. Closing the handle frees it."""
    handle = _open(path)
    flock(handle, kind)
    return handle


def try_lock(path: Path) -> int | None:
    """Take a lock without waiting; None where somebody else holds it."""
    handle = _open(path)
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextmanager
def locked(path: Path, kind: int = LOCK_EX) -> Iterator[int]:
    """Hold the lock of a file or folder for the `with` block; yields the handle."""
    handle = lock(path, kind)
    try:
        yield handle
    finally:
        os.close(handle)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock of a file or folder that is there."""
    if not path.exists():
        return False
    handle = try_lock(path)
    if handle is not None:
        os.close(handle)
    return handle is not None


def is_in_place(path: Path, handle: int) -> bool:
    """Whether the path still leads to the locked file: its last holder may have removed the file."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_CREAT | os.O_RDWR, 0o600)

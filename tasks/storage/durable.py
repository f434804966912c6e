"""Durable files: a power cut leaves them; they are on the disk and in their folder before anything refers to them.

A file that is only renamed into place may be empty afterwards, under its final name.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(final: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A temporary path to write to, renamed to its final name at the end; a cut-off file keeps the other name.

    Args:
        final: the name under which it appears; missing folders are made.
        lasting: it survives a power cut. Not worth its time where what is lost is found out again in a moment.
    """
    part = Path(f"{final}.{uuid.uuid4().hex}.part")
    try:
        make_folder(final.parent, lasting=lasting)
        yield part
        if lasting:
            on_disk(part)
        part.replace(final)
        if lasting:
            on_disk(final.parent)
    finally:
        part.unlink(missing_ok=True)


def make_folder(folder: Path, *, lasting: bool = True) -> None:
    """Make a folder and its parents; a lasting one is on the disk, in each of them, before this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent, lasting=lasting)
    folder.mkdir(exist_ok=True)
    if lasting:
        on_disk(folder.parent)


def on_disk(path: Path) -> None:
    """Wait until a file or folder survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

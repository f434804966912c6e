"""HOME is private to its owner: in it are clips, requests with the URLs they came from, keys and passwords."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from schemas.errors import store_error
from schemas.settings import settings

PRIVATE = 0o700


def private_home() -> Path:
    """HOME, made where it is missing."""
    return private(settings().home_folder)


def private(folder: Path) -> Path:
    """A folder, made where it is missing, and closed to everybody but its owner where that is us.

    Raises:
        StoreFull, StoreRefused: it cannot be made.
    """
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise store_error(str(folder), error, refused=True) from error
    everybodys = found.st_mode & stat.S_ISVTX  # /tmp and its like, on purpose
    if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not everybodys:
        with suppress(OSError):  # some file systems keep no such thing
            folder.chmod(PRIVATE)
    return folder

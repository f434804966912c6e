"""Download sink: counts, hashes and bounds the bytes as they come."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO

from schemas.errors import DownloadInterrupted, store_error
from schemas.rejections import DownloadRejected, Loc
from schemas.settings import settings

Shown = Callable[[int, int], None]
LEAST_SECONDS, LEAST_BYTES_PER_SECOND = 600.0, 20e3  # what a download may take
PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<error")
_ENDS: ContextVar[float] = ContextVar("ends", default=math.inf)  # when downloads have to be done


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the time of all downloads of this thread together."""
    mark = _ENDS.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ENDS.reset(mark)


class Sink:
    """File that a download is written to, counted, hashed and capped."""

    def __init__(self, file: IO[bytes], name: str, where: Loc, progress: Shown) -> None:
        self.file, self.name, self.where, self.progress = file, name, where, progress
        self.limit = settings().max_download_bytes
        self.begun = time.monotonic()
        self.total = 0
        self.restart()

    def restart(self) -> None:
        """Forget the bytes so far."""
        self.file.seek(0)
        self.file.truncate()
        self.done = 0
        self._hash = hashlib.sha256()

    def expect(self, total: int) -> None:
        """Note the length that the server announces."""
        self.total = total
        if total > self.limit:
            raise self.refusal(f"{total} bytes, at most {self.limit} are allowed")

    def write(self, chunk: bytes) -> None:
        """Write the next bytes."""
        if not self.done and chunk.lstrip()[:9].lower().startswith(PAGE_STARTS):
            raise self.refusal("it is a web page (a login page?), not a file")
        self.done += len(chunk)
        if time.monotonic() > _ENDS.get():
            raise self.refusal("it comes too slowly to be looked at here; upload it, or submit the request itself")
        if time.monotonic() - self.begun > LEAST_SECONDS + self.done / LEAST_BYTES_PER_SECOND:
            raise self.interruption("it comes too slowly to be of use, and broke off")
        if self.done > self.limit:
            raise self.refusal(f"more than {self.limit} bytes are not allowed")
        try:
            self.file.write(chunk)
        except OSError as error:  # of this machine, not of the other side
            raise store_error(str(settings().home_folder), error) from error
        self._hash.update(chunk)
        if self.total:
            self.progress(self.done, self.total)

    def refusal(self, reason: str) -> DownloadRejected:
        """The error for a file that is refused."""
        return DownloadRejected(self.name, reason, where=self.where)

    def interruption(self, reason: str) -> DownloadInterrupted:
        """The error for a download that may go better next time."""
        return DownloadInterrupted(f"{self.name}: {reason} after {self.done} bytes")

    def sha256(self) -> str:
        """Digest of all bytes."""
        return self._hash.hexdigest()

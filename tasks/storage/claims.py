"""Claims: two runs on one machine never make the same artifact at the same time.

A claim is the kernel's lock on one byte of a file under HOME, so that thousands of claims hold one file open. It ends
with its holder, however that ends: there is nothing to clean up. Machines that share a store do not see each other's
claims: an artifact that two of them make at once is made twice, and the store keeps one copy.
"""

import fcntl
import os
import struct
from collections.abc import Iterable
from hashlib import sha256
from types import TracebackType

from schemas.settings import settings

BYTES = 1 << 62  # of the file, none of which is ever written: two names never meet
BUSY = (BlockingIOError, PermissionError)  # either, says fcntl(2), where somebody else holds the byte


class Claims:
    """The artifacts that this run is making; all claims are released at the end of the `with` block."""

    def __init__(self) -> None:
        folder = settings().home_folder / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / "bytes", os.O_CREAT | os.O_RDWR)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def take(self, names: Iterable[str]) -> list[str]:
        """Claim the names that nobody else is making, without waiting; return them."""
        return [name for name in names if self._try(name)]

    def release(self, name: str) -> None:
        """Release the claim of an artifact that is made, or given up."""
        self._lock(name, fcntl.F_UNLCK)

    def wait_for(self, name: str) -> None:
        """Return when nobody is making an artifact any more. Hold no claim meanwhile: then nobody waits in a circle."""
        self._lock(name, fcntl.F_WRLCK, wait=True)
        self.release(name)

    def _try(self, name: str) -> bool:
        try:
            self._lock(name, fcntl.F_WRLCK)
        except BUSY:
            return False
        return True

    def _lock(self, name: str, kind: int, *, wait: bool = False) -> None:
        """Lock a name for this open file: other runs and other threads of this process are held up alike."""
        byte = int(sha256(name.encode()).hexdigest(), 16) % BYTES
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(self._file, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))


def wait_for(name: str) -> None:
    """Return when nobody is making an artifact any more."""
    with Claims() as claims:
        claims.wait_for(name)

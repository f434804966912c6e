"""Two runs on one machine never make the same artifact at the same time: who is making what.

A claim is the kernel's lock on one of a fixed number of files under HOME. It ends with its holder, however that ends,
so there is nothing to clean up. Machines that share a store do not see each other's claims: there, what two make at
once is made twice, and the store keeps one of them.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from types import TracebackType

from schemas.settings import settings

SLOTS = 1024  # two names of one slot only wait for each other without need


class Claims:
    """What this run is making; all of it is given back at the end of the `with` block."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._held):
            self.release(name)

    def take(self, names: Iterable[str]) -> list[str]:
        """Claim those that nobody else is making, without waiting."""
        return [name for name in names if self._try(name)]

    def release(self, name: str) -> None:
        """It is made, or given up."""
        os.close(self._held.pop(name))

    def _try(self, name: str) -> bool:
        handle = _open(name)
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._held[name] = handle
        return True


def wait_for(name: str) -> None:
    """Return when nobody is making it any more. Hold no claim while waiting: then nobody waits in a circle."""
    with _opened(name) as handle:
        flock(handle, LOCK_EX)


@contextmanager
def _opened(name: str) -> Iterator[int]:
    handle = _open(name)
    try:
        yield handle
    finally:
        os.close(handle)


def _open(name: str) -> int:
    folder = settings().home_folder / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    slot = int(sha256(name.encode()).hexdigest(), 16) % SLOTS
    return os.open(folder / f"{slot:04}", os.O_CREAT | os.O_RDWR)

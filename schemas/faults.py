"""Several input faults collected into one error, so that a user mends them in one go."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from schemas.rejections import InputRejected, Rejections

First = TypeVar("First")
Second = TypeVar("Second")


def together(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Call both functions, one after the other, even if the first is refused.

    Raises:
        InputRejected: all that was wrong with either.
    """
    done = all_of((first, second))
    return done[0], done[1]


def all_of(works: Iterable[Callable[[], Any]]) -> tuple[Any, ...]:
    """Call all functions, one after the other, even if some are refused.

    Raises:
        InputRejected: all that were refused, together.
    """
    done: list[Any] = []
    faults: list[InputRejected] = []
    for work in works:
        try:
            done.append(work())
        except InputRejected as fault:
            faults.append(fault)
    if faults:
        refuse(faults)
    return tuple(done)


def refuse(faults: Sequence[InputRejected]) -> NoReturn:
    """Raise the faults that were found: one as itself, several together, none of them twice."""
    different = list({str(fault.details()): fault for fault in faults}.values())  # one file may be named by two fields
    raise different[0] if len(different) == 1 else Rejections(different)

"""Thread pool over files: as many at a time as the settings say."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from schemas.errors import StoreDamaged
from schemas.faults import refuse
from schemas.rejections import InputRejected
from schemas.settings import settings

Work = TypeVar("Work")
Done = TypeVar("Done")


def each(
    work: Callable[[Work], Done], items: Sequence[Work], progress: Callable[[int, int], None] | None = None
) -> list[Done]:
    """Do the same work for all items, several at a time; results in the order of the items.

    Raises:
        StoreDamaged: of all that were damaged, so that they are made anew together.
        InputRejected: all that were refused, together.
    """
    done: list[Done] = []
    faults: list[InputRejected] = []
    damages: list[str] = []
    with ThreadPoolExecutor(settings().media_workers, "media") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                try:
                    done.append(future.result())
                except InputRejected as fault:
                    faults.append(fault)
                except StoreDamaged as damage:
                    damages.append(str(damage))
                if progress:
                    progress(len(done) + len(faults) + len(damages), len(items))
        finally:
            pool.shutdown(cancel_futures=True)  # after a fault of ours or a missing program the rest is in vain
    if damages:
        raise StoreDamaged("; ".join(dict.fromkeys(damages)))
    if faults:
        refuse(faults)
    return done

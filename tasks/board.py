"""The run page's live updates: written by a thread, left out where Prefect does not answer.

Showing progress must never hold up or end the work that is shown: a training outlives the server around it.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from functools import lru_cache

import httpx
from prefect.exceptions import PrefectException

from schemas.redaction import in_a_line

UNREACHABLE = (httpx.HTTPError, PrefectException, OSError)
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds before Prefect is asked again
log = logging.getLogger("ltx_flows.run")

Work = Callable[[], object]


class Board:
    """Updates waiting to be shown, each under a name; of each name only the latest is kept."""

    def __init__(self) -> None:
        self._waiting: dict[str, Work] = {}
        self._changed = threading.Condition()
        self._busy = False
        threading.Thread(target=self._show_all, name="board", daemon=True).start()

    def show(self, name: str, work: Work) -> None:
        """Queue an update, to be shown in the context of the run that asks for it."""
        context = contextvars.copy_context()
        with self._changed:
            self._waiting.pop(name, None)
            self._waiting[name] = lambda: context.run(work)
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until all updates are shown, but not longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _show_all(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                name = next(iter(self._waiting))
                work = self._waiting.pop(name)
                self._busy = True
            try:
                work()
                pause = FIRST_PAUSE
            except UNREACHABLE as error:
                log.warning("the run's page could not be brought up to date (%s); the run goes on", in_a_line(error))
                self._again(name, work)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception:  # a defect in what is only shown ends no run either
                log.exception("something on the run's page could not be made")
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _again(self, name: str, work: Work) -> None:
        """Queue a failed update again, unless a newer one waits under its name."""
        with self._changed:
            self._waiting.setdefault(name, work)


@lru_cache(maxsize=1)
def board() -> Board:
    """The board of this process."""
    return Board()

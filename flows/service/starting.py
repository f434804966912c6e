"""Starting of runs for requests that have none yet: a few at a time, and again after a while where a start fails."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta

import httpx
from prefect.exceptions import PrefectException

from flows.service import register
from flows.service.endings import CANCELLED, TOO_LATE, Ending, failed, not_started
from flows.service.prefect_runs import NotDeployed, Runs
from flows.service.register import Entry
from schemas.errors import LtxFlowsError
from schemas.redaction import in_a_line

AT_ONCE = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds before it is tried again
MAY_PASS = (httpx.HTTPError, PrefectException, LtxFlowsError, OSError)
REFUSALS = (400, 409, 413, 422)  # Prefect will never take it
NOT_DEPLOYED_FOR, UNREACHABLE_FOR = timedelta(minutes=10), timedelta(hours=24)
log = logging.getLogger("ltx_flows.service")

End = Callable[[Entry, Ending], Awaitable[None]]


class Starter:
    """Starts the runs of submitted requests."""

    def __init__(self, runs: Runs, end: End) -> None:
        self.runs, self.end = runs, end
        self.wait: dict[str, tuple[float, float]] = {}  # by request: when it is tried again, and the pause after that
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.going: set[str] = set()

    async def start_due(self, entries: Iterable[Entry]) -> None:
        """Start the runs of all requests that have none and whose time has come."""
        now = time.monotonic()
        due = [entry for entry in entries if self._is_due(entry, now)]
        self.going.update(entry.id for entry in due)
        try:
            for done in await asyncio.gather(*map(self._start, due), return_exceptions=True):
                if isinstance(done, Exception):
                    log.error("a defect in starting a request; the others go on", exc_info=done)
        finally:
            self.going.difference_update(entry.id for entry in due)

    def _is_due(self, entry: Entry, now: float) -> bool:
        waits = entry.run_id is None and entry.ended_at is None and entry.id not in self.going
        return waits and self.wait.get(entry.id, (0.0, 0.0))[0] <= now

    async def _start(self, entry: Entry) -> None:
        async with self.slots:
            try:
                ending = await self._run_or_ending(entry)
            except MAY_PASS as error:
                ending = _given_up(entry, error)
                if ending is None:
                    self._later(entry, error)
                    return
            self.wait.pop(entry.id, None)
            if ending:
                await self.end(entry, ending)

    async def _run_or_ending(self, entry: Entry) -> Ending | None:
        """Start the run of a request, or return how the request ends without one."""
        if entry.cancelled_at or _too_late(entry):
            run_id = await self.runs.find(entry.id)  # one may have been made of which the answer never came
            if run_id is None:
                return CANCELLED if entry.cancelled_at else TOO_LATE
        else:
            run_id = await self.runs.start(entry)
        if await asyncio.to_thread(register.note_run, entry.id, run_id):
            entry.run_id = run_id
        else:  # ended by another process, which knew of no run
            await self.runs.cancel(run_id)
        return None

    def _later(self, entry: Entry, error: Exception) -> None:
        _, pause = self.wait.get(entry.id, (0.0, FIRST_PAUSE))
        self.wait[entry.id] = time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE)
        log.warning("request %s could not be started (%s); again in %.1f s", entry.id, in_a_line(error), pause)


def _too_late(entry: Entry) -> bool:
    return entry.start_by is not None and datetime.now(UTC) > entry.start_by


def _given_up(entry: Entry, error: Exception) -> Ending | None:
    """Ending of a request that cannot be started, if there is no use in trying again."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in REFUSALS:
        log.error("request %s: Prefect refuses its run (%d)", entry.id, error.response.status_code)
        return failed(f"the run could not be made: Prefect refused it ({error.response.status_code})")
    waited = datetime.now(UTC) - entry.submitted_at
    if isinstance(error, NotDeployed) and waited > NOT_DEPLOYED_FOR:
        return not_started(f"{entry.endpoint} is not deployed here")
    return not_started("no run could be made for a day") if waited > UNREACHABLE_FOR else None

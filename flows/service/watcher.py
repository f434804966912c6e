"""Watcher: all requests in memory, updated from Prefect in one place, so that a client's poll costs next to nothing.

Several processes may serve one database: each looks at all requests, and the ending of a request is recorded once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from flows.service import register
from flows.service.delivering import Deliveries
from flows.service.endings import FINISHED, TOO_LATE, Ending, ending
from flows.service.inspection import Inspector
from flows.service.prefect_runs import Runs, RunState
from flows.service.register import PENDING, Entry
from flows.service.starting import Starter
from schemas.errors import LtxFlowsError, TransientError
from schemas.redaction import in_a_line
from tasks.board import UNREACHABLE
from tasks.ledger.outcomes import outcome

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_READINGS = 5.0  # of what other processes have written
SECONDS_BETWEEN_REVISIONS = 15.0
LONGEST_PAUSE = 5.0  # between looks that fail
SECONDS_FOR_A_CANCEL = 5.0
LATE = timedelta(seconds=10)  # a run's last lines reach Prefect after its end
ENDED_KEPT = 1000  # in memory; older ones are read when asked for
MAY_GO_ON, MOST_REVISED = timedelta(days=7), 1000  # failed requests of which somebody may still let the run go on
MAY_PASS = (*UNREACHABLE, TransientError)
GONE = RunState("Crashed", "its Prefect run was deleted", None, final=True)
CALLED_OFF = ("Cancelling", "Cancelled")
log = logging.getLogger("ltx_flows.service")


class Watcher:
    """The requests of one API process."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.entries: dict[str, Entry] = {}
        self.changed = asyncio.Condition()
        self.looking = asyncio.Lock()  # else a request could end twice
        self.joining = asyncio.Lock()  # of who asks for the same as somebody else: see direct.py
        self.background: set[asyncio.Task[None]] = set()
        self.inspector = Inspector(runs)
        self.starter = Starter(runs, self._end)
        self.deliveries = Deliveries()
        self.submitted, self.ended = asyncio.Event(), asyncio.Event()

    async def begin(self) -> None:
        """Read the requests that an earlier process left, and look after all until `end`."""
        await self.read()
        self.in_background(partial(_repeat, self.look, SECONDS_BETWEEN_LOOKS))
        self.in_background(partial(_repeat, self.start_due, SECONDS_BETWEEN_LOOKS, self.submitted))
        self.in_background(partial(_repeat, self.read, SECONDS_BETWEEN_READINGS))
        self.in_background(partial(_repeat, self.revise, SECONDS_BETWEEN_REVISIONS))
        self.in_background(partial(_repeat, self.deliveries.tell_due, SECONDS_BETWEEN_READINGS, self.ended))

    async def end(self) -> None:
        """Leave the rest to the next process."""
        left = (*self.background, *self.deliveries.going)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.runs.close()

    async def submit(self, entry: Entry) -> Entry:
        """Record a request, or find the earlier one with its idempotency key. Its run is started soon."""
        entry, new = await asyncio.to_thread(register.add, entry)
        entry = self.entries.setdefault(entry.id, entry)
        if new:
            self.submitted.set()
            self.in_background(lambda: attempt(self.inspector.look(entry)))
        self._count_queue()
        return entry

    async def wait(self, news: Callable[[], bool], seconds: float) -> None:
        """Wait until there is something new, but not longer than this."""
        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(news)
        except TimeoutError:
            return

    async def find(self, entry_id: str, owner: str) -> Entry | None:
        """A request of this owner."""
        entry = self.entries.get(entry_id) or await asyncio.to_thread(register.get, entry_id)
        if entry is None or entry.owner != owner:
            return None
        if entry.id not in self.entries:
            if entry.run_id:
                await self._read_logs(entry, entry.run_id)
            self.entries[entry.id] = entry
        return entry

    async def cancel(self, entry: Entry) -> None:
        """Record that a request is not wanted any more; its run is cancelled soon, and tried until that succeeds."""
        if await asyncio.to_thread(register.note_cancelled, entry.id):
            entry.cancelled_at = datetime.now(UTC)
            if entry.run_id:
                await attempt(self._cancel_run(entry.run_id))
            else:
                self.starter.wait.pop(entry.id, None)
                await self.start_due()

    async def _cancel_run(self, run_id: str) -> None:
        async with asyncio.timeout(SECONDS_FOR_A_CANCEL):  # `look` tries again, and clients do not wait for Prefect
            await self.runs.cancel(run_id)

    async def start_due(self) -> None:
        """Start the runs of submitted requests."""
        await self.starter.start_due(list(self.entries.values()))

    async def look(self) -> None:
        """Bring every request up to date."""
        async with self.looking:
            await self._look()
        async with self.changed:
            self.changed.notify_all()

    async def read(self) -> None:
        """Read what other processes have written: requests that came to them, and changes of ours."""
        known = {entry.id for entry in self.entries.values() if not entry.ended_at}
        found = {entry.id: entry for entry in await asyncio.to_thread(register.unsettled)}
        for entry in found.values():
            self._take(entry)
        for entry_id in known - found.keys():
            await self._read_again(entry_id)
        self._count_queue()

    async def revise(self) -> None:
        """Give failed requests their result where somebody has let the run go on, and it has completed since."""
        since = datetime.now(UTC) - MAY_GO_ON
        failed = await asyncio.to_thread(register.failed_since, since, MOST_REVISED)
        by_run = {str(entry.run_id): entry for entry in failed}
        for run_id in await self.runs.completed(list(by_run)) if by_run else []:
            told = await asyncio.to_thread(outcome, run_id)
            if told and "result" in told and await asyncio.to_thread(register.revise, by_run[run_id], told["result"]):
                log.info("request %s has its result after all", by_run[run_id].id)
                await self._read_again(by_run[run_id].id)
                self.ended.set()
        for entry in [each for each in self.entries.values() if each.run_id and each.code not in (None, 200)]:
            if entry.run_id not in by_run and entry.ended_at and entry.ended_at > since:  # revised by another process
                await self._read_again(entry.id)

    async def _look(self) -> None:
        asked = {entry.run_id: entry for entry in self.entries.values() if entry.run_id and not entry.ended_at}
        states = await self.runs.states(list(asked)) if asked else {}
        for run_id, entry in asked.items():
            await attempt(self._follow(entry, run_id, states.get(run_id, GONE)))
        for entry in list(self.entries.values()):  # others come meanwhile
            if entry.run_id and entry.ended_at and datetime.now(UTC) - entry.ended_at < LATE:
                entry.logs.extend(await self.runs.logs(entry.run_id, len(entry.logs)))
        self._count_queue()
        self._forget()

    async def _follow(self, entry: Entry, run_id: str, state: RunState) -> None:
        entry.state = state.name
        if state.started_at and not entry.started_at:
            entry.started_at = state.started_at
            await asyncio.to_thread(register.change, entry.id, started_at=state.started_at)
        if entry.started_at:
            await self._read_logs(entry, run_id)
        if state.final or state.name in FINISHED:
            told = await asyncio.to_thread(outcome, run_id)
            if state.final or (told and "result" in told):  # one that crashed after its bill is at its end, too
                await self._end(entry, ending(state, told))
        elif entry.cancelled_at and state.name not in CALLED_OFF:  # it was not heard, or somebody let it go on
            await self.runs.cancel(run_id)
        elif _is_too_late(entry) and await self.runs.reject(run_id, "it did not start in time"):
            await self._end(entry, TOO_LATE)

    async def _read_logs(self, entry: Entry, run_id: str) -> None:
        while lines := await self.runs.logs(run_id, len(entry.logs)):
            entry.logs.extend(lines)

    async def _end(self, entry: Entry, how: Ending) -> None:
        await asyncio.to_thread(register.end, entry, *how)
        await self._read_again(entry.id)  # it may have been ended by another process before
        self.ended.set()

    async def _read_again(self, entry_id: str) -> None:
        if found := await asyncio.to_thread(register.get, entry_id):
            self._take(found)

    def _take(self, found: Entry) -> None:
        """Update the entry in memory from the database's; every holder of the entry sees the change."""
        entry = self.entries.setdefault(found.id, found)
        if entry.ended_at and not found.ended_at:  # read before it ended
            return
        for name in register.CHANGING:
            if (value := getattr(found, name)) is not None or entry.ended_at:
                setattr(entry, name, value)

    def in_background(self, doing: Callable[[], Awaitable[object]]) -> None:
        """Run a coroutine beside everything else."""
        task = asyncio.create_task(_do(doing))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def _count_queue(self) -> None:
        queued = (entry for entry in self.entries.values() if entry.status == "IN_QUEUE")
        for position, entry in enumerate(sorted(queued, key=_turn)):
            entry.queue_position = position

    def _forget(self) -> None:
        for entry_id in _oldest(self.entries.values(), ENDED_KEPT):
            del self.entries[entry_id]


async def _do(doing: Callable[[], Awaitable[object]]) -> None:
    await doing()


async def _repeat(doing: Callable[[], Awaitable[None]], seconds: float, sooner: asyncio.Event | None = None) -> None:
    """Repeat a coroutine for ever, at an interval or sooner on an event; less often while it fails."""
    sooner, pause = sooner or asyncio.Event(), seconds
    while True:
        sooner.clear()
        pause = seconds if await attempt(doing()) else max(seconds, min(2 * pause, LONGEST_PAUSE))
        try:
            async with asyncio.timeout(pause):
                await sooner.wait()
        except TimeoutError:
            continue


async def attempt(doing: Awaitable[None]) -> bool:
    """Await work that may be repeated: failed work is done at the next look. Return whether it succeeded."""
    try:
        await doing
    except MAY_PASS as error:
        log.warning("the Prefect server or the ledger does not answer: %s", in_a_line(error))
    except LtxFlowsError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("a defect in looking after the requests; the others go on")
    else:
        return True
    return False


def _turn(entry: Entry) -> tuple[bool, datetime]:
    """Place of a request in the queue: those that may wait are behind all others."""
    return entry.priority == "low", entry.submitted_at


def _is_too_late(entry: Entry) -> bool:
    return entry.start_by is not None and entry.started_at is None and datetime.now(UTC) > entry.start_by


def _oldest(entries: Iterable[Entry], keep: int) -> list[str]:
    ended = [e for e in entries if e.ended_at and e.webhook_state != PENDING]
    ended.sort(key=lambda each: each.ended_at or each.submitted_at)
    return [entry.id for entry in ended[: max(0, len(ended) - keep)]]

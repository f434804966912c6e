"""All requests in memory, brought up to date from Prefect in one place: a client's poll costs next to nothing."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.exceptions import PrefectException

from flows.service import register
from flows.service.inspection import Inspector
from flows.service.register import PENDING, Entry
from flows.service.runs import Runs, RunState
from flows.service.webhooks import deliver
from schemas.errors import LtxFlowsError, MayPass
from tasks.outcomes import outcome

SECONDS_BETWEEN_LOOKS = 0.5
LATE = timedelta(seconds=10)  # a run's last lines reach Prefect after its end
ENDED_KEPT = 1000  # in memory; older ones are read when asked for
UNREACHABLE = (httpx.HTTPError, PrefectException, MayPass, OSError)
FINISHED = ("Completed", "Crashed", "Cancelled")  # either of the latter may come after it was billed
GONE = RunState("Crashed", "its Prefect run was deleted", None, final=True)
log = logging.getLogger("ltx_flows.service")


class Watcher:
    """The requests of one API process."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.entries: dict[str, Entry] = {}
        self.changed = asyncio.Condition()
        self.looking = asyncio.Lock()  # else a request could end twice
        self.background: set[asyncio.Task[None]] = set()
        self.inspector = Inspector(runs)

    async def begin(self) -> None:
        """Read what an earlier process left."""
        for entry in await asyncio.to_thread(register.unsettled):
            self.entries[entry.id] = entry
            if entry.ended_at:
                self._deliver(entry)
        self._count_queue()

    async def submit(self, entry: Entry) -> Entry:
        """Write a request down and start it; one with a known idempotency key is the earlier one.

        A run that cannot be started now is started by `watch`.
        """
        entry, new = await asyncio.to_thread(register.add, entry)
        entry = self.entries.setdefault(entry.id, entry)
        if new:
            await self._try(self._start(entry))
            self._in_background(self._inspect(entry))
        self._count_queue()
        return entry

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
        """Ask for the run's end; `watch` sees it come."""
        if entry.run_id is None:
            await self._start(entry)  # else it would start later, and nobody would remember
        if entry.run_id:
            await self.runs.cancel(entry.run_id)

    async def watch(self) -> None:
        """Look at what has not ended, for ever."""
        while True:
            await self._try(self.look())
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def look(self) -> None:
        """Bring every request up to date."""
        async with self.looking:
            await self._look()
        async with self.changed:
            self.changed.notify_all()

    async def _look(self) -> None:
        waiting = [entry for entry in self.entries.values() if not entry.ended_at]
        for entry in waiting:
            if entry.run_id is None:
                await self._try(self._start(entry))  # one that cannot start holds up no other
        asked = {entry.run_id: entry for entry in waiting if entry.run_id}
        states = await self.runs.states(list(asked)) if asked else {}
        for run_id, entry in asked.items():
            await self._try(self._follow(entry, run_id, states.get(run_id, GONE)))
        for entry in list(self.entries.values()):  # others come meanwhile
            if entry.run_id and entry.ended_at and datetime.now(UTC) - entry.ended_at < LATE:
                entry.logs.extend(await self.runs.logs(entry.run_id, len(entry.logs)))
        self._count_queue()
        self._forget()

    async def _start(self, entry: Entry) -> None:
        entry.run_id = await self.runs.start(entry)
        await asyncio.to_thread(register.change, entry.id, run_id=entry.run_id)

    async def _follow(self, entry: Entry, run_id: str, state: RunState) -> None:
        entry.state = state.name
        if state.started_at and not entry.started_at:
            entry.started_at = state.started_at
            await asyncio.to_thread(register.change, entry.id, started_at=state.started_at)
        if entry.started_at:
            await self._read_logs(entry, run_id)
        if state.final:
            await self._end(entry, run_id, state)

    async def _read_logs(self, entry: Entry, run_id: str) -> None:
        while lines := await self.runs.logs(run_id, len(entry.logs)):
            entry.logs.extend(lines)

    async def _end(self, entry: Entry, run_id: str, state: RunState) -> None:
        told = await asyncio.to_thread(outcome, run_id)
        code, answer = ending(state, told)
        values: dict[str, Any] = {"code": code, "answer": answer, "ended_at": datetime.now(UTC)}
        if entry.webhook:
            values["webhook_state"] = PENDING
        await asyncio.to_thread(register.change, entry.id, **values)
        for name, value in values.items():
            setattr(entry, name, value)
        if entry.webhook:
            self._deliver(entry)

    async def _inspect(self, entry: Entry) -> None:
        await self._try(self.inspector.look(entry))

    def _deliver(self, entry: Entry) -> None:
        self._in_background(deliver(entry))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def _count_queue(self) -> None:
        queued = (entry for entry in self.entries.values() if entry.status == "IN_QUEUE")
        for position, entry in enumerate(sorted(queued, key=lambda each: each.submitted_at)):
            entry.queue_position = position

    def _forget(self) -> None:
        for entry_id in _oldest(self.entries.values(), ENDED_KEPT):
            del self.entries[entry_id]

    async def _try(self, doing: Any) -> None:
        """What cannot be done now is done at the next look."""
        try:
            await doing
        except UNREACHABLE as error:
            log.warning("the Prefect server or the ledger does not answer: %s", error)
        except LtxFlowsError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a defect in looking after the requests; the others go on")


def ending(state: RunState, told: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
    """Status code and body of a run that has ended."""
    if state.name in FINISHED and told and "result" in told:
        return 200, told["result"]
    if state.name == "Rejected" and told and "detail" in told:
        return 422, {"detail": told["detail"]}
    if state.name == "Cancelled":
        return 400, {"detail": "the request was cancelled", "error_type": "request_cancelled"}
    if state.name == "Crashed":
        return 503, {"detail": state.message or "its worker ended", "error_type": "runner_disconnected"}
    fault = {"loc": ["body"], "msg": state.message or state.name, "type": "internal_server_error", "input": None}
    return 500, {"detail": [fault]}


def _oldest(entries: Iterable[Entry], keep: int) -> list[str]:
    ended = [e for e in entries if e.ended_at and e.webhook_state != PENDING]
    ended.sort(key=lambda each: each.ended_at or each.submitted_at)
    return [entry.id for entry in ended[: max(0, len(ended) - keep)]]

"""Prefect runs of the API's requests: started, looked at, cancelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from logging import ERROR
from typing import Protocol
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
    TaskRunFilter,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, Log, StateType
from prefect.client.schemas.sorting import LogSort
from prefect.states import Failed

from flows.cancellation import call_off
from flows.hosting.automations import MOST_TRIES
from flows.hosting.queues import QUEUES
from flows.hosting.recovery import let_go_on
from flows.service.register import Entry, LogLine
from flows.service.sightings import Sighting, Sightings
from schemas.endpoints import ENDPOINTS
from schemas.errors import ServerUnavailable
from schemas.redaction import for_clients

LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "ERROR"}
LOGS_AT_ONCE = 200  # Prefect's limit, as is the next
RUNS_AT_ONCE = 200
SECONDS_FOR_THE_SERVER = 20  # in which its own watch lets a crashed run go on; see flows/hosting/automations.py
LATE = timedelta(seconds=30)  # workers, runs and their steps send lines every few seconds, each its own


class NotDeployed(ServerUnavailable):
    """A server without a deployment for an endpoint."""


@dataclass(frozen=True)
class RunState:
    """The state of a run."""

    name: str  # Prefect's, or ours: Rejected
    message: str
    started_at: datetime | None
    final: bool  # a run that crashed is not at its end while it may go on


class Runs(Protocol):
    """Protocol for running requests, all that the API needs of Prefect."""

    async def start(self, entry: Entry) -> str:
        """Start the run of a request, once however often this is called; return its id."""
        ...

    async def find(self, entry_id: str) -> str | None:
        """The run of a request, if one was started."""
        ...

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]: ...

    async def completed(self, run_ids: Sequence[str]) -> list[str]:
        """The runs among these that have completed."""
        ...

    async def logs(self, run_id: str, offset: int) -> list[LogLine]:
        """Log lines after the first so many; lines that come late come last."""
        ...

    async def sighting(self, run_id: str) -> Sighting:
        """What a run shows of itself: how far it is, its curve, its last preview."""
        ...

    async def cancel(self, run_id: str) -> None: ...

    async def reject(self, run_id: str, message: str) -> bool:
        """End a run that has not begun as Rejected; False where it had begun."""
        ...

    async def close(self) -> None:
        """Close the client: nothing more will be asked."""
        ...


class PrefectRuns:
    """Runs of the deployments that `ltx-flows serve` and `ltx-flows deploy` make."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[UUID, datetime]] = {}  # by run: its latest lines
        self._steps: dict[str, dict[UUID, str]] = {}  # by run: names of its steps
        self._opened: PrefectClient | None = None
        self._sightings = Sightings()

    async def _client(self) -> PrefectClient:
        """One client for all requests: making one takes 40 ms, in which no other request would be answered."""
        if self._opened is None:
            client = get_client()
            await client.__aenter__()
            self._opened = client
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(None, None, None)

    async def start(self, entry: Entry) -> str:
        endpoint = ENDPOINTS[entry.endpoint]
        title, client = endpoint.flow_title, await self._client()
        found = await client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[title])))
        if not found:
            raise NotDeployed(f"{title} is not deployed; type: ltx-flows deploy")
        run = await client.create_flow_run_from_deployment(
            next((each.id for each in found if each.name == title), found[0].id),
            parameters={"request": entry.body},
            idempotency_key=entry.id,
            name=endpoint.run_name(entry.body.get("trigger_phrase", "")),
            work_queue_name=QUEUES[entry.priority],
        )
        return str(run.id)

    async def find(self, entry_id: str) -> str | None:
        wanted = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[entry_id]))
        found = await (await self._client()).read_flow_runs(flow_run_filter=wanted)
        return str(found[0].id) if found else None

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]:
        found = [run for run in await self._read(run_ids) if run.state]
        return {str(run.id): await self._standing(run) for run in found}

    async def completed(self, run_ids: Sequence[str]) -> list[str]:
        return [str(run.id) for run in await self._read(run_ids) if run.state_type is StateType.COMPLETED]

    async def _read(self, run_ids: Sequence[str]) -> list[FlowRun]:
        client, runs = await self._client(), []
        for part in (run_ids[start : start + RUNS_AT_ONCE] for start in range(0, len(run_ids), RUNS_AT_ONCE)):
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(each) for each in part]))
            runs += await client.read_flow_runs(flow_run_filter=wanted)
        return runs

    async def _standing(self, run: FlowRun) -> RunState:
        assert run.state
        crashed = run.state_type is StateType.CRASHED
        final = not await self._goes_on(run) if crashed else run.state.is_final()
        return RunState(run.state.name or "", run.state.message or "", run.start_time, final)

    async def _goes_on(self, run: FlowRun) -> bool:
        """Whether a run that crashed is tried again: by the server itself, else by us after a while."""
        assert run.state
        client = await self._client()
        crashes = [state for state in await client.read_flow_run_states(run.id) if state.is_crashed()]
        if len(crashes) >= MOST_TRIES:
            return False
        if datetime.now(UTC) - run.state.timestamp > timedelta(seconds=SECONDS_FOR_THE_SERVER):
            await let_go_on(client, run.id)
        return True

    async def logs(self, run_id: str, offset: int) -> list[LogLine]:
        heard = self._heard.get(run_id, {}) if offset else {}
        since = max(heard.values()) - LATE if heard else None
        found = await _lines(await self._client(), UUID(run_id), since)
        lines = [line for line in found if line.id not in heard]
        heard |= {line.id: line.timestamp for line in lines}
        self._heard[run_id] = {each: when for each, when in heard.items() if since is None or when >= since}
        steps = await self._step_names(run_id, {line.task_run_id for line in lines if line.task_run_id})
        return [
            LogLine(
                message=for_clients(_said(line, steps)),
                level=LEVELS.get(line.level, "INFO"),
                timestamp=line.timestamp.isoformat(),
            )
            for line in lines
        ]

    async def _step_names(self, run_id: str, wanting: set[UUID]) -> dict[UUID, str]:
        """Names of the steps that log lines are of; one that Prefect has not recorded yet has none."""
        known = self._steps.setdefault(run_id, {})
        if missing := wanting - known.keys():
            wanted = TaskRunFilter(id=TaskRunFilterId(any_=list(missing)))
            found = await (await self._client()).read_task_runs(task_run_filter=wanted)
            known |= {run.id: run.name for run in found}
        return known

    async def sighting(self, run_id: str) -> Sighting:
        return await self._sightings.of(await self._client(), run_id)

    async def cancel(self, run_id: str) -> None:
        await call_off(await self._client(), UUID(run_id))

    async def reject(self, run_id: str, message: str) -> bool:
        client = await self._client()
        run = await client.read_flow_run(UUID(run_id))
        if run.state_type is not StateType.SCHEDULED:
            return False
        await client.set_flow_run_state(run.id, Failed(name="Rejected", message=message))
        said = LogCreate(
            name="prefect.flow_runs", level=ERROR, message=message, timestamp=datetime.now(UTC), flow_run_id=run.id
        )
        await client.create_logs([said])  # it has not begun, and so said nothing itself
        return True


def _said(line: Log, steps: Mapping[UUID, str]) -> str:
    """A line's text behind the name of its step."""
    step = steps.get(line.task_run_id) if line.task_run_id else None
    return f"{step}: {line.message}" if step else line.message


async def _lines(client: PrefectClient, run_id: UUID, since: datetime | None) -> list[Log]:
    """All log lines of a run since a time."""
    moment = LogFilterTimestamp(after_=since) if since else None
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]), timestamp=moment)
    found: list[Log] = []
    while part := await client.read_logs(wanted, LOGS_AT_ONCE, len(found), LogSort.TIMESTAMP_ASC):
        found += part
        if len(part) < LOGS_AT_ONCE:
            break
    return found

"""Reused steps: the steps of a run that came from the cache, as the Prefect server has them."""

import time
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType, TaskRun
from prefect.client.schemas.sorting import TaskRunSort

LAST = "bill"  # the step with which a run completes
SECONDS_UNTIL_RECORDED = 10  # task runs reach the server as events, a moment after they end


def reused_steps(flow_run_id: UUID) -> list[str]:
    """Names of the steps that ended as Cached, in their order; of a run that went on, those since then."""
    deadline = time.monotonic() + SECONDS_UNTIL_RECORDED
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)
        last = LAST if run.state_type is StateType.COMPLETED else None
        runs = _task_runs(client, flow_run_id, run.run_count)
        while not _all_recorded(runs, last) and time.monotonic() < deadline:
            time.sleep(0.2)
            runs = _task_runs(client, flow_run_id, run.run_count)
    worked = {run.name for run in runs if run.state_name != "Cached"}  # a second download of one file is no reuse
    return [name for name in dict.fromkeys(run.name for run in runs) if name not in worked]


def _all_recorded(runs: list[TaskRun], last: str | None) -> bool:
    """Whether all task runs have ended, and the last step is among them."""
    whole = last is None or last in {run.name for run in runs}
    return whole and all(run.state is not None and run.state.is_final() for run in runs)


def _task_runs(client: SyncPrefectClient, flow_run_id: UUID, tries: int) -> list[TaskRun]:
    """Task runs of the last try: those killed with an earlier try never end."""
    runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        sort=TaskRunSort.EXPECTED_START_TIME_ASC,
    )
    return [run for run in runs if run.flow_run_run_count == tries]

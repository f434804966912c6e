"""Recovery of runs whose worker is gone: the same runs go on, with finished steps from the cache, billed once."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Cancelled

from flows.cancellation import NO_PROCESS

WORKER_LABEL = "prefect.worker.name"  # a worker writes its name on what it takes
HELD = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def recover(pool: str, worker: str, *, alone: bool) -> list[FlowRun]:
    """Schedule again the runs that a worker of this name held when it ended, and finish its cancellations.

    Call it only while no such worker lives. `alone`: no other worker serves the pool, so that a run on which no name
    has been written yet was this one's, too.
    """
    with get_client(sync_client=True) as client:
        left = [run for run in _held(client, pool) if run.labels.get(WORKER_LABEL, worker if alone else "") == worker]
        for run in left:
            _let_go(client, run)
    return left


async def let_go_on(client: PrefectClient, run_id: UUID) -> None:
    """Schedule a crashed run again."""
    run = await client.read_flow_run(run_id)
    await client.request("PATCH", "/flow_runs/{id}", path_params={"id": run_id}, json=NO_PROCESS)
    await client.set_flow_run_state(run_id, _in_its_turn(run, "its process ended before it did"), force=True)


def _held(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(HELD)))
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=state),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )


def _let_go(client: SyncPrefectClient, run: FlowRun) -> None:
    """Clear a run's process, and set its next state."""
    client.request("PATCH", "/flow_runs/{id}", path_params={"id": run.id}, json=NO_PROCESS)
    state: State[None]
    if run.state_type is StateType.CANCELLING:
        state = Cancelled(message="its worker ended before it did")
    else:
        state = _in_its_turn(run, "its worker ended")
    client.set_flow_run_state(run.id, state, force=True)


def _in_its_turn(run: FlowRun, ended: str) -> State[None]:
    """State of a run scheduled before those that have been queued since."""
    return AwaitingRetry(scheduled_time=run.expected_start_time, message=f"{ended}; it goes on where it was")

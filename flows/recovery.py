"""Runs whose worker is gone: the same ones go on, so that finished steps come from the cache and all is billed once."""

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Cancelled

WORKER_LABEL = "prefect.worker.name"  # a worker writes its name on what it takes
HELD = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def recover(pool: str, worker: str, *, alone: bool) -> list[FlowRun]:
    """Schedule again what a worker of this name held when it ended, and finish what it was cancelling.

    Call it only while no such worker lives. `alone`: no other worker serves the pool, so that a run on which no name
    has been written yet was this one's, too.
    """
    with get_client(sync_client=True) as client:
        left = [run for run in _held(client, pool) if run.labels.get(WORKER_LABEL, worker if alone else "") == worker]
        for run in left:
            _let_go(client, run)
    return left


def _held(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(HELD)))
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=state),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )


def _let_go(client: SyncPrefectClient, run: FlowRun) -> None:
    """Forget its process, without which it could be cancelled no more, and say what becomes of it."""
    client.request("PATCH", "/flow_runs/{id}", path_params={"id": run.id}, json={"infrastructure_pid": None})
    state: State[None]
    if run.state_type is StateType.CANCELLING:
        state = Cancelled(message="its worker ended before it did")
    else:
        turn = run.expected_start_time  # before those that have been queued since
        state = AwaitingRetry(scheduled_time=turn, message="its worker ended; it goes on where it was")
    client.set_flow_run_state(run.id, state, force=True)

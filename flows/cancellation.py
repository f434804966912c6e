"""Cancellation: the API asks for it; a run checks once more at its start, as Prefect may start a cancelled run."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Cancelling

NO_PROCESS = {"infrastructure_pid": None}  # a run that has one is not Cancelled until its process has heard of it
CALLED_OFF = (StateType.CANCELLING, StateType.CANCELLED)


async def call_off(client: PrefectClient, run_id: UUID) -> None:
    """Ask a run to end: a run that no worker has taken is Cancelled at once, one that has ended stays as it is.

    A run that has crashed, and would go on, is Cancelled, too.
    """
    message = "cancelled by its client"
    run = await client.read_flow_run(run_id)
    if run.state_type is StateType.CRASHED:
        await client.set_flow_run_state(run_id, Cancelled(message=message), force=True)
        return
    if run.state_type is StateType.SCHEDULED and run.infrastructure_pid:  # of the process that has crashed
        await client.request("PATCH", "/flow_runs/{id}", path_params={"id": run_id}, json=NO_PROCESS)
    await client.set_flow_run_state(run_id, Cancelling(message=message))


def called_off(run_id: UUID) -> bool:
    """Whether the run was cancelled while its process was starting.

    Prefect's observer of cancellations starts a moment after its check; in between, the run would begin and be billed.
    """
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(run_id), key=lambda state: state.timestamp)
    before = [state.type for state in states if state.type is not StateType.RUNNING]
    return bool(before) and before[-1] in CALLED_OFF

"""Runs that are called off: by the API, and noticed by the run itself where Prefect lets it begin all the same."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

CALLED_OFF = (StateType.CANCELLING, StateType.CANCELLED)


async def call_off(client: PrefectClient, run_id: UUID) -> None:
    """Ask a run to end: one that no worker has taken is Cancelled at once, one that has ended stays as it is."""
    await client.set_flow_run_state(run_id, Cancelling(message="cancelled by its client"))


def called_off(run_id: UUID) -> bool:
    """Whether the run was cancelled while its process was starting.

    What watches for that begins a moment after Prefect has looked; in between, the run would begin and be billed.
    """
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(run_id), key=lambda state: state.timestamp)
    before = [state.type for state in states if state.type is not StateType.RUNNING]
    return bool(before) and before[-1] in CALLED_OFF

"""What the Prefect server looks after by itself, by automations: runs that cannot say what became of them."""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENT = "ltx-flows: runs that fell silent"
SECONDS_OF_SILENCE = 90  # three heartbeats, see prefect.yaml
UNHEARD = "ltx-flows: runs that did not hear that they are cancelled"
SECONDS_TO_CANCEL = 60  # a run is given 30 to end in order
ENDED = {f"prefect.flow-run.{name}" for name in ("Cancelled", "Crashed", "Completed", "Failed", "Rejected")}


def watch_heartbeats() -> None:
    """Have the server call a run crashed when nothing has been heard of it: its machine is gone and cannot say so."""
    message = "nothing was heard of it for a while: its machine or worker is gone; `prefect flow-run retry` goes on"
    expected = {"prefect.flow-run.*"}  # of any state: states of ours have names of ours
    _watch(
        SILENT, "heartbeat", expected, SECONDS_OF_SILENCE, ChangeFlowRunState(state=StateType.CRASHED, message=message)
    )


def watch_cancellations() -> None:
    """Have the server cancel what nobody else cancels.

    Who looks after a run hears of it only once its process has been started, and a run may end on its own at that very
    moment; either would be cancelling for ever.
    """
    action = ChangeFlowRunState(state=StateType.CANCELLED, message="cancelled")
    _watch(UNHEARD, "Cancelling", ENDED, SECONDS_TO_CANCEL, action)


def _watch(name: str, after: str, expected: set[str], seconds: int, action: ChangeFlowRunState) -> None:
    """One automation of this name, however often it is made: act on a run if nothing that is expected follows."""
    trigger = EventTrigger(
        posture=Posture.Proactive,
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={f"prefect.flow-run.{after}"},
        expect=expected,
        within=timedelta(seconds=seconds),
    )
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(name):
            client.delete_automation(old.id)
        client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[action]))

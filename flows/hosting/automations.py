"""Automations of the Prefect server for runs that end, or fall silent, without a word.

Automations that a person has changed, switched off or removed there stay so (applied.py).
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.hosting.applied import Applied, merged

SILENT = "ltx-flows: runs that fell silent"
SECONDS_OF_SILENCE = 300  # ten heartbeats, see prefect.yaml; a server that starts again loses some
UNBEGUN = "ltx-flows: runs that were taken and never began"
SECONDS_TO_BEGIN = 1800  # an image with torch is pulled in them
UNHEARD = "ltx-flows: runs that did not hear that they are cancelled"
SECONDS_TO_CANCEL = 60  # a run is given 30 to end in order
CRASHED = "ltx-flows: runs whose process was killed"
MOST_TRIES = 5  # of one run, however it ends
ENDED = {f"prefect.flow-run.{name}" for name in ("Cancelled", "Crashed", "Completed", "Failed", "Rejected")}
RUNS = {"prefect.resource.id": "prefect.flow-run.*"}


def watch_heartbeats(deployments: Sequence[UUID]) -> None:
    """Have the server call a silent run crashed after a while: its machine is gone and cannot report the end."""
    message = "nothing was heard of it for a while: its machine or worker is gone"
    action = ChangeFlowRunState(state=StateType.CRASHED, message=message)
    trigger = _absence("heartbeat", {"prefect.flow-run.*"}, SECONDS_OF_SILENCE, deployments)  # states have any name
    _keep(AutomationCore(name=SILENT, trigger=trigger, actions=[action]))


def watch_beginnings(deployments: Sequence[UUID]) -> None:
    """Have the server call a run crashed that a worker took and did not start: the API lets it go on elsewhere."""
    action = ChangeFlowRunState(state=StateType.CRASHED, message="a worker took it, and it did not begin")
    begun = ENDED | {f"prefect.flow-run.{name}" for name in ("Running", "Cancelling", "AwaitingRetry", "Scheduled")}
    _keep(
        AutomationCore(
            name=UNBEGUN, trigger=_absence("Pending", begun, SECONDS_TO_BEGIN, deployments), actions=[action]
        )
    )


def watch_cancellations(deployments: Sequence[UUID]) -> None:
    """Have the server cancel runs that nobody else cancels.

    A run's worker hears of its cancellation only once its process has been started, and a run may end on its own at
    that very moment; in both cases the run would be cancelling for ever.
    """
    action = ChangeFlowRunState(state=StateType.CANCELLED, message="cancelled")
    trigger = _absence("Cancelling", ENDED, SECONDS_TO_CANCEL, deployments)
    _keep(AutomationCore(name=UNHEARD, trigger=trigger, actions=[action]))


def watch_crashes(deployments: Sequence[UUID]) -> None:
    """Have the server let a run that crashed go on, a few times: finished steps come from the cache, the training from
    its checkpoint. A run that crashed before it began is left alone: its machine or image may not work at all.
    """
    message = "its process ended before it did; it goes on where it was"
    action = ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=message)
    trigger = EventTrigger(
        posture=Posture.Reactive,
        match=ResourceSpecification({**RUNS, "prefect.run-count": [str(n) for n in range(1, MOST_TRIES)]}),
        match_related=_of(deployments),
        expect={"prefect.flow-run.Crashed"},
    )
    _keep(AutomationCore(name=CRASHED, trigger=trigger, actions=[action]))


def _absence(after: str, expected: set[str], seconds: int, deployments: Sequence[UUID]) -> EventTrigger:
    """Trigger for runs on which none of the expected events follows an event."""
    return EventTrigger(
        posture=Posture.Proactive,
        match=ResourceSpecification(RUNS),
        match_related=_of(deployments),
        for_each={"prefect.resource.id"},
        after={f"prefect.flow-run.{after}"},
        expect=expected,
        within=timedelta(seconds=seconds),
    )


def _of(deployments: Sequence[UUID]) -> ResourceSpecification:
    """Filter for runs of our deployments; others may use the same server."""
    ids = sorted(f"prefect.deployment.{each}" for each in deployments)
    return ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.id": ids})


def _keep(wanted: AutomationCore) -> None:
    """Create an automation, or bring the one of this name up to date."""
    told = _told(wanted)
    with get_client(sync_client=True) as client:
        applied = Applied(client, f"automation {wanted.name}")
        before = applied.read()
        found = client.read_automations_by_name(wanted.name)
        if not found and before is None:
            client.create_automation(wanted)
        for there in found[:1]:
            core = AutomationCore.model_validate(there.model_dump(exclude={"id"}))
            if merged(_told(core), before or _told(core), told) != _told(core):
                client.update_automation(there.id, wanted.model_copy(update={"enabled": there.enabled}))
        applied.write(told)


def _told(automation: AutomationCore) -> dict[str, object]:
    """Our part of an automation, in a form that can be compared: the server adds fields that we leave out."""
    plain = automation.model_dump(mode="json", include={"trigger", "actions"})
    plain["trigger"] = {name: value for name, value in plain["trigger"].items() if name != "id"}
    for name in ("expect", "after", "for_each"):
        plain["trigger"][name] = sorted(plain["trigger"].get(name) or [])
    return {"whole": str(plain)}

"""Deployments that were all called `prod`, moved to the names of their flows.

What a person changed moves along: schedules, tags, job variables, a pause. Prefect deletes the queued runs of a
deployment with it, so the former one stays, without schedules, until its last run has ended.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment

from flows.hosting.applied import Applied
from flows.hosting.prefect_app import FORMER

UNFINISHED = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)
MAY_GO_ON = timedelta(days=1)  # of a run that crashed
CARRIED = ("description", "tags", "work_pool_name", "job_variables", "parameters", "paused")


def move(client: SyncPrefectClient, made: RunnerDeployment) -> None:
    """Make the deployment from its former self, if there is one that has not been moved; done again, it is the same."""
    former, known = _former(client, made), Applied(client, f"{made.flow_name}/{made.name}")
    if former is None or known.read() is not None:
        return
    new = UUID(str(made.apply()))
    client.update_deployment(new, DeploymentUpdate(**{name: getattr(former, name) for name in CARRIED}))
    for schedule in client.read_deployment(new).schedules:  # of a move that was cut off
        client.delete_deployment_schedule(new, schedule.id)
    kept = DeploymentScheduleCreate.model_fields.keys() - {"replaces"}
    found = [DeploymentScheduleCreate(**each.model_dump(include=kept)) for each in former.schedules]
    client.create_deployment_schedules(new, found)
    if before := Applied(client, f"{made.flow_name}/{FORMER}").read():
        known.write(before)


def retired(client: SyncPrefectClient, made: RunnerDeployment) -> list[UUID]:
    """Remove the former deployment; while it has runs that have not ended, only its schedules, and return its id."""
    former = _former(client, made)
    if former is None:
        return []
    for schedule in former.schedules:
        client.delete_deployment_schedule(former.id, schedule.id)
    if _in_use(client, former.id):
        return [former.id]
    client.delete_deployment(former.id)
    return []


def _former(client: SyncPrefectClient, made: RunnerDeployment) -> DeploymentResponse | None:
    """The deployment of this flow under its former name; a person's own of that name has another entrypoint.

    Looked for among all: asked for by that name, a server of ours answers with the one of today.
    """
    found = client.read_deployments(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[made.flow_name])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[FORMER])),
    )
    ours = (each for each in found if each.entrypoint == made.entrypoint and made.name != each.name)
    return next(ours, None)


def _in_use(client: SyncPrefectClient, deployment: UUID) -> bool:
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    going = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNFINISHED))))
    crashed = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - MAY_GO_ON),
    )
    return any(
        client.read_flow_runs(deployment_filter=mine, flow_run_filter=each, limit=1) for each in (going, crashed)
    )

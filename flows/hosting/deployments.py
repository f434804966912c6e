"""Deployments: the work pool and one deployment per endpoint, from prefect.yaml, made or updated on a Prefect server.

Changes by a person there stay: schedules, descriptions, tags, job variables, another pool, a pause (applied.py).
Run as a program (`python -m flows.hosting.deployments process`) it imports torch for its parent, which need not.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron

from flows.hosting.applied import Applied, merged
from flows.hosting.automations import watch_beginnings, watch_cancellations, watch_crashes, watch_heartbeats
from flows.hosting.queues import make_queues
from flows.hosting.renaming import move, retired
from tasks.storage.store import key_of

NAME = "prefect.yaml"
PLACES = ("LTX_FLOWS_STORE", "LTX_FLOWS_OUTPUTS", "LTX_FLOWS_DATABASE_URL")
POOL_TYPES = ("process", "docker", "kubernetes")  # names in `definitions`, and Prefect's
FORMER_LIMIT = 8  # of runs per endpoint, until its leases were found to end runs when the server starts again


def definition(pool_type: str) -> dict[str, Any]:
    """Name and job variables of the work pool of a type: those of prefect.yaml, and the places of this machine.

    Every machine then keeps results, checkpoints and outputs where the others reach them, and goes on with their runs.
    """
    found = dict(_content()["definitions"][pool_type])
    variables = found["job_variables"]
    return found | {"job_variables": variables | {"env": variables["env"] | shared_places()}}


def shared_places() -> dict[str, str]:
    """Settings of this environment that every machine needs; Prefect's server keeps them, so none with a password."""
    places = {name: os.environ[name] for name in PLACES if os.environ.get(name)}
    return {name: url for name, url in places.items() if not urlsplit(url).password}


def pool_name(pool_type: str = "process") -> str:
    """Name of the work pool."""
    return str(definition(pool_type)["name"])


def make_pool(pool_type: str) -> None:
    """Create the work pool, or bring it up to date."""
    pool = definition(pool_type)
    with get_client(sync_client=True) as client:
        metadata = client.request("GET", "/collections/views/{view}", path_params={"view": "aggregate-worker-metadata"})
        template = job_template(pool_type, metadata.json(), pool.get("container", {}))
        applied = Applied(client, f"pool {pool['name']}")
        told = (applied.read() or {}).get("template")
        try:
            there = client.read_work_pool(pool["name"]).base_job_template
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=pool["name"], type=pool_type, base_job_template=template))
        else:
            untouched: tuple[dict[str, Any], ...] = (
                {},
                job_template(pool_type, metadata.json(), {}),
            )  # a worker's, which makes missing pools
            if there in untouched or key_of(there) == told:
                client.update_work_pool(pool["name"], WorkPoolUpdate(base_job_template=template))
            else:
                template = there
        applied.write({"template": key_of(template)})
        make_queues(client, pool["name"])


def job_template(pool_type: str, metadata: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    """Prefect's job template of a pool type, with prefect.yaml's settings of the container put in."""
    kinds = {name: kind for collection in metadata.values() for name, kind in collection.items()}
    template: dict[str, Any] = kinds[pool_type]["default_base_job_configuration"]
    if container:
        pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        pod["containers"][0] = _overlaid(pod["containers"][0], container)
    return template


def deploy(pool_type: str, *, silence: bool = False) -> list[str]:
    """Make the pool and deploy all endpoints to it; return their names, as `prefect deployment run` takes them.

    Args:
        pool_type: one of POOL_TYPES.
        silence: have the server notice runs that fall silent; where a worker is `serve`'s, that looks after them.
    """
    from flows import endpoints  # noqa: PLC0415  # torch

    make_pool(pool_type)
    pool = definition(pool_type)
    names, ids = [], []
    for entry in _content()["deployments"]:
        flow = getattr(endpoints, entry["entrypoint"].removeprefix("flows.endpoints."))
        schedules = {each["slug"]: _schedule(each) for each in entry.get("schedules", [])}
        made = flow.to_deployment(
            entry["name"],
            tags=entry["tags"],
            work_pool_name=pool["name"],
            job_variables=pool["job_variables"],
        )
        made.entrypoint = entry["entrypoint"]
        ids += _apply(made, schedules)
        names.append(f"{made.flow_name}/{made.name}")
    watch_cancellations(ids)
    watch_crashes(ids)
    if silence:
        watch_heartbeats(ids)
        watch_beginnings(ids)
    return names


def _apply(made: RunnerDeployment, schedules: dict[str, DeploymentScheduleCreate]) -> list[UUID]:
    """Make a deployment, or bring it up to date; return its id, and that of its former self while runs need that."""
    wanted = {
        "description": made.description,
        "tags": made.tags,
        "work_pool_name": made.work_pool_name,
        "job_variables": made.job_variables,
    }
    with get_client(sync_client=True) as client:
        move(client, made)
        applied = Applied(client, f"{made.flow_name}/{made.name}")
        before = applied.read()
        try:
            there = client.read_deployment_by_name(f"{made.flow_name}/{made.name}")
        except ObjectNotFound:
            found = UUID(str(made.apply()))
            client.create_deployment_schedules(found, list(schedules.values()))
        else:
            found = there.id
            _update(client, made, there, merged({name: getattr(there, name) for name in wanted}, before, wanted))
            _update_schedules(client, there, (before or {}).get("schedules"), schedules)
        applied.write(wanted | {"schedules": {slug: _plain(each) for slug, each in schedules.items()}})
        return [found, *retired(client, made)]


def _update(
    client: SyncPrefectClient, made: RunnerDeployment, there: DeploymentResponse, values: dict[str, Any]
) -> None:
    """Change only the values that differ: a change of any kind forgets the runs that are scheduled."""
    values["entrypoint"] = made.entrypoint  # these two belong to the code
    values["parameter_openapi_schema"] = made._parameter_openapi_schema.model_dump(exclude_unset=True)
    values["enforce_parameter_schema"] = True
    changed = {name: value for name, value in values.items() if getattr(there, name) != value}
    limit = there.global_concurrency_limit
    if limit is not None and limit.limit == FORMER_LIMIT:
        changed["concurrency_limit"] = None
    if changed:
        client.update_deployment(there.id, DeploymentUpdate(**changed))


def _update_schedules(
    client: SyncPrefectClient,
    there: DeploymentResponse,
    before: dict[str, Any] | None,
    wanted: dict[str, DeploymentScheduleCreate],
) -> None:
    """Update our schedules, known by their slugs, where nobody has changed, switched or removed them."""
    if before is None:  # all that is there may be a person's
        return
    known = {each.slug: each for each in there.schedules if each.slug}
    removed = [slug for slug in known if slug in before and _plain(known[slug]) == before[slug]]
    changed = [slug for slug in removed if slug not in wanted or _plain(wanted[slug]) != before[slug]]
    for slug in changed:
        client.delete_deployment_schedule(there.id, known[slug].id)
    new = [slug for slug in wanted if slug in changed or (slug not in known and slug not in before)]
    if new:
        client.create_deployment_schedules(there.id, [wanted[slug] for slug in new])


def _schedule(entry: Mapping[str, Any]) -> DeploymentScheduleCreate:
    """One schedule of prefect.yaml."""
    return DeploymentScheduleCreate.from_schedule(
        Cron(entry["cron"], **{key: value for key, value in entry.items() if key != "cron"})
    )


def _plain(schedule: DeploymentScheduleCreate | DeploymentSchedule) -> dict[str, Any]:
    """The part of a schedule that a person sees, and may change."""
    return schedule.model_dump(mode="json", include={"schedule", "active", "parameters"})


def _content() -> dict[str, Any]:
    return dict(yaml.safe_load(prefect_yaml().read_text(encoding="utf-8")))


def prefect_yaml() -> Path:
    """The file beside this one in an installed package, where setup.py puts it; in a checkout the one at its top."""
    installed = Path(__file__).with_name(NAME)
    return installed if installed.is_file() else Path(__file__).parents[2] / NAME


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings merged, nested mappings as well."""
    both = {
        name: _overlaid(under[name], over[name]) for name in under.keys() & over.keys() if isinstance(under[name], dict)
    }
    return {**under, **over, **both}


if __name__ == "__main__":
    print("\n".join(deploy(sys.argv[1])))

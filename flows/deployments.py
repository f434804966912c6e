"""prefect.yaml brought to a Prefect server: the work pool and a deployment per endpoint.

Run as a program (`python -m flows.deployments process`) it imports torch for its parent, which need not.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Schedule

from flows.watches import watch_cancellations

PREFECT_YAML = Path(__file__).parent.parent / "prefect.yaml"
PLACES = ("LTX_FLOWS_STORE", "LTX_FLOWS_OUTPUTS", "LTX_FLOWS_DATABASE_URL")
POOL_TYPES = ("process", "docker", "kubernetes")  # names in `definitions`, and Prefect's


def definition(pool_type: str) -> dict[str, Any]:
    """Name and job variables of the work pool of a type: as prefect.yaml has it, and with the places of this machine.

    Every machine then keeps results, checkpoints and outputs where the others reach them, and goes on with their runs.
    """
    found = dict(_content()["definitions"][pool_type])
    variables = found["job_variables"]
    return found | {"job_variables": variables | {"env": variables["env"] | shared_places()}}


def shared_places() -> dict[str, str]:
    """What of this environment every machine has to know; Prefect's server keeps it, so nothing with a password."""
    places = {name: os.environ[name] for name in PLACES if os.environ.get(name)}
    return {name: url for name, url in places.items() if not urlsplit(url).password}


def pool_name(pool_type: str = "process") -> str:
    """The work pool's."""
    return str(definition(pool_type)["name"])


def make_pool(pool_type: str) -> None:
    """The work pool, made or brought up to date."""
    pool = definition(pool_type)
    with get_client(sync_client=True) as client:
        metadata = client.request("GET", "/collections/views/{view}", path_params={"view": "aggregate-worker-metadata"})
        template = job_template(pool_type, metadata.json(), pool.get("container", {}))
        try:
            client.read_work_pool(pool["name"])
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=pool["name"], type=pool_type, base_job_template=template), overwrite=True
            )
        else:
            client.update_work_pool(pool["name"], WorkPoolUpdate(base_job_template=template))


def job_template(pool_type: str, metadata: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    """Prefect's template of such a pool's jobs, with what prefect.yaml says of the container put in."""
    kinds = {name: kind for collection in metadata.values() for name, kind in collection.items()}
    template: dict[str, Any] = kinds[pool_type]["default_base_job_configuration"]
    if container:
        pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        pod["containers"][0] = _merged(pod["containers"][0], container)
    return template


def deploy(pool_type: str) -> list[str]:
    """Make the pool and deploy all endpoints to it; their names, as `prefect deployment run` takes them."""
    from flows import endpoints  # noqa: PLC0415  # torch

    make_pool(pool_type)
    watch_cancellations()
    pool = definition(pool_type)
    names = []
    for entry in _content()["deployments"]:
        flow = getattr(endpoints, entry["entrypoint"].removeprefix("flows.endpoints."))
        deployment = flow.to_deployment(
            entry["name"],
            tags=entry["tags"],
            schedules=_schedules(entry, f"{flow.name}/{entry['name']}"),
            concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
            work_pool_name=pool["name"],
            job_variables=pool["job_variables"],
        )
        deployment.entrypoint = entry["entrypoint"]
        deployment.apply()
        names.append(f"{flow.name}/{entry['name']}")
    return names


def _schedules(entry: Mapping[str, Any], name: str) -> list[Schedule]:
    """As prefect.yaml has them; what somebody has turned on or off since stays so."""
    with get_client(sync_client=True) as client:
        try:
            switched = {each.slug: each.active for each in client.read_deployment_by_name(name).schedules}
        except ObjectNotFound:
            switched = {}
    schedules = []
    for each in entry.get("schedules", []):
        fields = {key: value for key, value in each.items() if key != "cron"}
        schedules.append(Cron(each["cron"], **fields | {"active": switched.get(each["slug"], each["active"])}))
    return schedules


def _content() -> dict[str, Any]:
    return dict(yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8")))


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, and where both have a mapping, those merged, too."""
    both = {
        name: _merged(under[name], over[name]) for name in under.keys() & over.keys() if isinstance(under[name], dict)
    }
    return {**under, **over, **both}


if __name__ == "__main__":
    print("\n".join(deploy(sys.argv[1])))

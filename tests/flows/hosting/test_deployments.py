"""prefect.yaml says what is deployed: to `ltx-flows deploy`, to `serve`, and to Prefect's own command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import prefect as prefect_package
import pytest

from schemas.endpoints import ENDPOINTS

VIEW = "server/api/collections_data/views/aggregate-worker-metadata.json"
ROOT = Path(__file__).parents[3]
DEPLOYED = {
    "name", "entrypoint", "tags", "work_pool_name", "work_queue_name", "job_variables", "concurrency_options",
    "parameter_openapi_schema", "enforce_parameter_schema", "description", "paused",
}  # fmt: skip


@pytest.fixture(scope="module")
def names(client):
    from flows.hosting.deployments import deploy

    return deploy("process")


def deployed(client):
    return {each.entrypoint: each.model_dump(mode="json", include=DEPLOYED) for each in client.read_deployments()}


def test_every_endpoint_has_a_deployment_on_the_pool(client, names):
    entries = [client.read_deployment_by_name(name) for name in names]
    assert {entry.entrypoint for entry in entries} == {f"flows.endpoints.{name}" for name in functions()}
    assert {entry.work_pool_name for entry in entries} == {"ltx-gpu"}
    assert all(entry.global_concurrency_limit is None for entry in entries)  # its leases would end runs


def functions():
    from flows.endpoints import FLOWS

    assert FLOWS.keys() == ENDPOINTS.keys()
    return [flow.fn.__name__ for flow in FLOWS.values()]


@pytest.mark.long
def test_prefects_own_command_deploys_the_same(client, names):
    before = deployed(client)
    environment = os.environ | {"PREFECT_API_URL": str(client.api_url)}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert deployed(client) == before


def test_the_example_schedule_is_off_until_somebody_turns_it_on_and_then_stays_on(client, names):
    from flows.hosting.deployments import deploy

    entry = client.read_deployment_by_name("extend-prefix/extend-prefix")
    (schedule,) = entry.schedules
    assert (schedule.active, schedule.schedule.cron) == (False, "0 3 * * *")
    ENDPOINTS["extend-prefix"].read(schedule.parameters["request"])  # it would be accepted
    client.update_deployment_schedule(entry.id, schedule.id, active=True)
    deploy("process")
    assert [each.active for each in client.read_deployment_by_name("extend-prefix/extend-prefix").schedules] == [True]


def test_a_process_run_ends_with_its_worker(client, names):
    command = "python -P -m flows.bound prefect.engine"
    assert {entry.job_variables["command"] for entry in client.read_deployments()} == {command}


@pytest.mark.parametrize("pool_type", ["process", "docker", "kubernetes"])
def test_job_variables_are_those_that_the_pools_template_has(pool_type):
    from flows.hosting.deployments import definition

    metadata = json.loads((Path(prefect_package.__file__).parent / VIEW).read_text())
    kinds = {name: kind for collection in metadata.values() for name, kind in collection.items()}
    variables = kinds[pool_type]["default_base_job_configuration"]["variables"]
    given = definition(pool_type)["job_variables"]
    jsonschema.validate(given, variables | {"additionalProperties": False})
    assert given["env"]["PREFECT_PLUGINS_ENABLED"] == "true"  # its runs wait for a server that is away


def test_a_kubernetes_job_asks_for_a_gpu_and_gets_the_secrets(client):
    from flows.hosting.deployments import make_pool

    make_pool("kubernetes")
    template = client.read_work_pool("ltx-kubernetes").base_job_template["job_configuration"]
    (container,) = template["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["limits"]["memory"] == "{{ memory_limit }}"  # what the template had stays
    assert container["envFrom"] == [{"secretRef": {"name": "ltx-flows"}}]


@pytest.mark.parametrize(
    ("watch", "called", "posture", "seconds", "becomes"),
    [
        ("watch_heartbeats", "SILENT", "Proactive", 300, "CRASHED"),
        ("watch_beginnings", "UNBEGUN", "Proactive", 1800, "CRASHED"),
        ("watch_cancellations", "UNHEARD", "Proactive", 60, "CANCELLED"),
        ("watch_crashes", "CRASHED", "Reactive", 0, "SCHEDULED"),
    ],
)
def test_one_watch_of_each_kind_over_our_runs_however_often_it_is_set_up(
    client, names, watch, called, posture, seconds, becomes
):
    from flows.hosting import automations as watches

    ours = sorted(client.read_deployment_by_name(name).id for name in names)
    for _ in range(2):
        getattr(watches, watch)(ours)
    (made,) = client.read_automations_by_name(getattr(watches, called))
    assert (made.trigger.posture.value, made.trigger.within.total_seconds()) == (posture, seconds)
    assert [action.state.value for action in made.actions] == [becomes]
    watched = made.trigger.match_related.model_dump()["prefect.resource.id"]
    assert set(watched) == {f"prefect.deployment.{each}" for each in ours}


def test_a_watch_that_a_person_has_switched_off_or_removed_stays_so(client, names):
    from flows.hosting import automations as watches
    from flows.hosting.deployments import deploy

    def found():
        return [
            each.enabled
            for name in (watches.UNHEARD, watches.CRASHED)
            for each in client.read_automations_by_name(name)
        ]

    (unheard,) = client.read_automations_by_name(watches.UNHEARD)
    (crashed,) = client.read_automations_by_name(watches.CRASHED)
    client.pause_automation(unheard.id)
    client.delete_automation(crashed.id)
    deploy("process")
    assert found() == [False]
    client.resume_automation(unheard.id)
    client.delete_variable_by_name("ltx_flows_applied_automation_ltx_flows__runs_whose_process_was_killed")
    deploy("process")
    assert found() == [True, True]


def test_what_a_person_has_changed_in_prefects_pages_stays(client, names):
    from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
    from prefect.client.schemas.schedules import IntervalSchedule

    from flows.hosting.deployments import deploy

    def seen(name):
        entry = client.read_deployment_by_name(name)
        schedules = sorted((each.slug or "", each.active) for each in entry.schedules)
        return entry.description, sorted(entry.tags), entry.job_variables.get("stream_output"), entry.paused, schedules

    name = next(name for name in names if "a2a" in name)
    entry = client.read_deployment_by_name(name)
    mine = IntervalSchedule(interval=86400)
    client.create_deployment_schedules(entry.id, [DeploymentScheduleCreate(schedule=mine, active=True)])
    more = entry.job_variables | {"stream_output": False}
    client.update_deployment(
        entry.id, DeploymentUpdate(description="ours", tags=[*entry.tags, "mine"], job_variables=more, paused=True)
    )
    before = seen(name)
    deploy("process")
    assert seen(name) == before == ("ours", ["gpu", "ltx", "mine"], False, True, [("", True)])


def test_the_example_schedule_that_somebody_removed_stays_away(client, names):
    from flows.hosting.deployments import deploy

    entry = client.read_deployment_by_name("extend-prefix/extend-prefix")
    (schedule,) = entry.schedules
    client.delete_deployment_schedule(entry.id, schedule.id)
    deploy("process")
    assert client.read_deployment_by_name("extend-prefix/extend-prefix").schedules == []


def test_what_nobody_has_changed_is_brought_up_to_date(client, names, monkeypatch):
    from flows.hosting import deployments

    content = deployments._content()
    for entry in content["deployments"]:
        entry["tags"] = ["ltx", "gpu", "newer"]
    monkeypatch.setattr(deployments, "_content", lambda: content)
    deployments.deploy("process")
    tags = {name: set(client.read_deployment_by_name(name).tags) for name in names}
    assert [name for name, found in tags.items() if found == {"ltx", "gpu", "newer"}] == [
        name for name in names if "a2a" not in name
    ]


def test_a_run_that_waits_goes_on_waiting_when_it_is_deployed_again(client, names):
    from flows.hosting.deployments import deploy

    entry = client.read_deployment_by_name("av2av-masked/av2av-masked")
    asked = {"request": {"training_data_url": "https://clips.invalid/clips.zip", "trigger_phrase": "hmm"}}
    run = client.create_flow_run_from_deployment(entry.id, parameters=asked)
    deploy("process")
    assert client.read_flow_run(run.id).state.is_scheduled()


def test_every_deployment_takes_a_request_as_the_endpoint_reads_it(client, names):
    entry = client.read_deployment_by_name("extend-prefix/extend-prefix")
    schema = entry.parameter_openapi_schema
    assert schema["definitions"]["ExtendPrefix"]["additionalProperties"] is False
    assert (schema["required"], entry.enforce_parameter_schema) == (["request"], True)


def test_runs_know_the_places_that_all_machines_share_but_no_password(monkeypatch):
    from flows.hosting.deployments import definition

    monkeypatch.setenv("LTX_FLOWS_STORE", "s3://team/store")
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", "s3://team/outputs")
    monkeypatch.setenv("LTX_FLOWS_DATABASE_URL", "postgresql+psycopg://ltx:secret@host/ledger")
    for pool in ("process", "docker", "kubernetes"):
        env = definition(pool)["job_variables"]["env"]
        assert (env["LTX_FLOWS_STORE"], env["LTX_FLOWS_OUTPUTS"]) == ("s3://team/store", "s3://team/outputs")
        assert "LTX_FLOWS_DATABASE_URL" not in env
        assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"

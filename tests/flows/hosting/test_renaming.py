"""Deployments that were all called prod become those of today, with what a person changed, and nothing runs twice."""

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.exceptions import ObjectNotFound

from flows.hosting import deployments
from flows.hosting.applied import Applied
from flows.hosting.deployments import deploy
from flows.hosting.prefect_app import FORMER

FLOW = "extend-prefix"
WRITE = Applied.write
ASKED = {"request": {"training_data_url": "https://clips.invalid/clips.zip"}}


@pytest.fixture
def former(client, monkeypatch):
    """A server that the release before has deployed to, and a person has changed."""
    forget(client)
    content = deployments._content()
    for entry in content["deployments"]:
        entry["name"] = FORMER
    with monkeypatch.context() as patch:
        patch.setattr(deployments, "_content", lambda: content)
        deploy("process")
    there = client.read_deployment_by_name(f"{FLOW}/{FORMER}")
    client.update_deployment(there.id, DeploymentUpdate(description="ours", tags=[*there.tags, "mine"]))
    client.update_deployment_schedule(there.id, there.schedules[0].id, active=True)
    yield there
    forget(client)


def forget(client):
    """Make the server one that nothing was deployed to."""
    for entry in client.read_deployments():
        client.delete_deployment(entry.id)
    for flow in client.read_flows():
        for name in (FORMER, flow.name):
            if client.read_variable_by_name(variable := Applied(client, f"{flow.name}/{name}").name):
                client.delete_variable_by_name(variable)


def named(client):
    ours = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    return {each.name: each for each in client.read_deployments(flow_filter=ours)}


def test_the_former_deployment_becomes_the_one_of_today_with_a_persons_changes(client, former):
    assert f"{FLOW}/{FLOW}" in deploy("process")
    found = named(client)
    assert found.keys() == {FLOW}
    assert (found[FLOW].description, sorted(found[FLOW].tags)) == ("ours", ["gpu", "ltx", "mine"])
    assert [(each.slug, each.active) for each in found[FLOW].schedules] == [("nightly", True)]
    with pytest.raises(ObjectNotFound):
        client.read_deployment_by_name(f"av2av-masked/{FORMER}")


def test_its_waiting_runs_stay_and_keep_it_without_schedules_until_they_have_ended(client, former):
    run = client.create_flow_run_from_deployment(former.id, parameters=ASKED)
    for _ in range(2):
        deploy("process")
        assert client.read_flow_run(run.id).state.is_scheduled()
        found = named(client)
        assert found.keys() == {FLOW, FORMER}
        assert (len(found[FORMER].schedules), len(found[FLOW].schedules)) == (0, 1)  # else each night would count twice
    client.delete_flow_run(run.id)
    deploy("process")
    assert named(client).keys() == {FLOW}


def test_a_move_that_was_cut_off_is_done_again_and_doubles_no_schedule(client, former, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("flows.hosting.renaming.Applied.write", cut_off)
        with pytest.raises(KeyboardInterrupt):
            deploy("process")
    deploy("process")
    assert [(each.slug, each.active) for each in named(client)[FLOW].schedules] == [("nightly", True)]


def test_a_server_that_finds_deployments_by_former_names_keeps_those_of_today(client, monkeypatch):
    asked = SyncPrefectClient.read_deployment_by_name
    ours = lambda self, name: asked(self, name.replace(f"/{FORMER}", f"/{name.partition('/')[0]}"))  # noqa: E731
    monkeypatch.setattr(SyncPrefectClient, "read_deployment_by_name", ours)
    before = [sorted(deploy("process")) for _ in range(2)]
    assert before[0] == before[1] == sorted(f"{each.name}/{each.name}" for each in client.read_deployments())


def cut_off(self, wanted):
    if self.name.endswith("extend_prefix_extend_prefix"):
        raise KeyboardInterrupt
    WRITE(self, wanted)


def test_runs_that_may_wait_have_a_queue_that_is_looked_into_last(client):
    for _ in range(2):
        deploy("process")
    queues = {each.name: each.priority for each in client.read_work_queues(work_pool_name="ltx-gpu")}
    assert queues.keys() == {"default", "low"} and queues["default"] < queues["low"]

"""Prefect's runs behind the API's requests: their names, their queues, and what their logs say."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from flows.service.prefect_runs import PrefectRuns
from flows.service.register import entry_of

BODY = {"training_data_url": "https://clips.invalid/clips.zip", "trigger_phrase": "my_st9le"}


@pytest.fixture(scope="module")
def client(prefect):
    from prefect.client.orchestration import get_client

    from flows.hosting.deployments import deploy

    deploy("process")
    with get_client(sync_client=True) as client:
        yield client


def through(ask):
    """What Prefect's runs answer."""

    async def asked():
        runs = PrefectRuns()
        try:
            return await ask(runs)
        finally:
            await runs.close()

    return asyncio.run(asked())


@pytest.mark.parametrize(("priority", "queue"), [("normal", "default"), ("low", "low")])
def test_a_run_carries_its_endpoint_and_phrase_from_the_start_and_waits_in_its_queue(client, priority, queue):
    entry = entry_of("ic-lora/a2a", BODY, owner="me", origin="https://localhost", priority=priority)
    run = client.read_flow_run(UUID(through(lambda runs: runs.start(entry))))
    assert (run.name, run.work_queue_name, run.state.is_scheduled()) == ("ic-lora-a2a my_st9le", queue, True)


def test_a_line_of_a_step_begins_with_the_steps_name(client):
    from prefect.client.schemas.actions import LogCreate
    from prefect.client.schemas.objects import TaskRun

    run = UUID(through(lambda runs: runs.start(entry_of("extend-prefix", BODY, owner="me", origin="https://here"))))
    task = client._client.post(
        "/task_runs/", json={"flow_run_id": str(run), "task_key": "fit", "dynamic_key": "0", "name": "fit"}
    )
    step = TaskRun.model_validate(task.json()).id
    said = [("loading", None), ("4 kept", step)]
    client.create_logs(
        [
            LogCreate(
                name="x", level=20, message=text, timestamp=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
                flow_run_id=run, task_run_id=of,
            )
            for number, (text, of) in enumerate(said)
        ]
    )  # fmt: skip
    lines = through(lambda runs: runs.logs(str(run), 0))
    assert [line.message for line in lines] == ["loading", "fit: 4 kept"]

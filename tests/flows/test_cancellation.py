"""Runs that are called off, at each point of their way to the GPU."""

import asyncio

import pytest

from flows.endpoints import FLOWS
from flows.service.prefect_runs import PrefectRuns
from schemas.endpoints import ENDPOINTS
from tasks.ledger.bills import bills

pytestmark = pytest.mark.usefixtures("prefect", "home")

REQUEST = {"training_data_url": "https://clips.invalid/clips.zip"}


def made(client, *states):
    """A run of a flow that has gone through these states."""
    flow = FLOWS["extend-prefix"]
    run = client.create_flow_run(flow, parameters={"request": REQUEST}, state=states[0])
    for state in states[1:]:
        client.set_flow_run_state(run.id, state, force=True)
    return client.read_flow_run(run.id)


def call_off(run_id):
    async def cancel():
        runs = PrefectRuns()
        await runs.cancel(str(run_id))
        await runs.close()

    asyncio.run(cancel())


def begun(run):
    """The state of a run that its process has begun."""
    from prefect.flow_engine import run_flow_sync

    request = ENDPOINTS["extend-prefix"].read(REQUEST)
    return run_flow_sync(FLOWS["extend-prefix"], flow_run=run, parameters={"request": request}, return_type="state")


@pytest.mark.parametrize(
    ("states", "becomes"),
    [
        (["Scheduled"], "Cancelled"),
        (["Scheduled", "Pending"], "Cancelling"),
        (["Scheduled", "Pending", "Running"], "Cancelling"),
        (["Scheduled", "Pending", "Running", "Completed"], "Completed"),
    ],
)
def test_what_nobody_has_taken_is_cancelled_at_once_and_what_has_ended_stays(client, states, becomes):
    from prefect import states as all_states

    run = made(client, *(getattr(all_states, name)() for name in states))
    call_off(run.id)
    assert client.read_flow_run(run.id).state.name == becomes


@pytest.mark.parametrize("state", ["Cancelled", "Cancelling"])
def test_a_run_that_was_called_off_while_its_process_started_does_nothing(client, state):
    from prefect import states

    run = made(client, states.Scheduled(), states.Pending(), getattr(states, state)())
    assert begun(run).name == state  # if it is the latter still, flows/hosting/automations.py ends it
    assert (bills(), client.read_flow_run(run.id).state.name) == ([], state)


def test_a_run_that_was_called_off_may_be_run_again(client):
    from prefect.states import AwaitingRetry, Cancelled, Pending, Scheduled

    run = made(client, Scheduled(), Cancelled(), AwaitingRetry(), Pending())
    state = begun(run)
    assert state.name in ("Failed", "Rejected") and "clips.invalid" in state.message

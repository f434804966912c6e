"""Runs that crash and go on, and runs that live while they are taken for dead: on Prefect's own server."""

import asyncio

import pytest

from flows import pulse
from flows.endpoints import FLOWS
from flows.hosting.automations import MOST_TRIES
from flows.pulse import Pulse
from flows.service import prefect_runs as runs_module
from flows.service.prefect_runs import PrefectRuns

pytestmark = pytest.mark.usefixtures("prefect", "home")

REQUEST = {"training_data_url": "https://clips.invalid/clips.zip"}


@pytest.fixture
def run(client):
    """A run that is going."""
    from prefect.states import Pending, Running

    made = client.create_flow_run(FLOWS["extend-prefix"], parameters={"request": REQUEST}, state=Pending())
    client.set_flow_run_state(made.id, Running(), force=True)
    return client.read_flow_run(made.id)


def crash(client, run):
    from prefect.states import Crashed

    client.set_flow_run_state(run.id, Crashed(message="killed"), force=True)


def asked(doing):
    """What PrefectRuns says."""

    async def ask():
        runs = PrefectRuns()
        try:
            return await doing(runs)
        finally:
            await runs.close()

    return asyncio.run(ask())


def standing(run):
    return asked(lambda runs: runs.states([str(run.id)]))[str(run.id)]


def test_a_crashed_run_is_not_at_its_end_while_the_server_may_let_it_go_on(client, run):
    crash(client, run)
    state = standing(run)
    assert (state.name, state.final) == ("Crashed", False)
    assert client.read_flow_run(run.id).state_name == "Crashed"


def test_one_that_nobody_lets_go_on_is_let_go_on_by_the_api(client, run, monkeypatch):
    monkeypatch.setattr(runs_module, "SECONDS_FOR_THE_SERVER", 0)
    client.update_flow_run(run.id, infrastructure_pid="4711")
    crash(client, run)
    turn = client.read_flow_run(run.id).expected_start_time
    assert not standing(run).final
    found = client.read_flow_run(run.id)
    assert (found.state_name, found.infrastructure_pid) == ("AwaitingRetry", None)
    assert found.next_scheduled_start_time == turn  # before those that have been queued since


def test_after_a_few_tries_it_has_ended(client, run, monkeypatch):
    monkeypatch.setattr(runs_module, "SECONDS_FOR_THE_SERVER", 0)
    for _ in range(MOST_TRIES - 1):
        crash(client, run)
        assert not standing(run).final
    crash(client, run)
    assert standing(run).final


def test_a_crashed_run_that_is_cancelled_does_not_go_on(client, run, monkeypatch):
    monkeypatch.setattr(runs_module, "SECONDS_FOR_THE_SERVER", 0)
    crash(client, run)
    asked(lambda runs: runs.cancel(str(run.id)))
    assert (client.read_flow_run(run.id).state_name, standing(run).final) == ("Cancelled", True)


def test_one_that_waits_to_go_on_is_cancelled_at_once(client, run):
    from prefect.states import AwaitingRetry

    client.update_flow_run(run.id, infrastructure_pid="4711")  # of the process that has ended
    client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    asked(lambda runs: runs.cancel(str(run.id)))
    assert client.read_flow_run(run.id).state_name == "Cancelled"


def test_completed_runs_and_the_run_of_a_request_are_found(client, run):
    from prefect.states import Completed

    assert asked(lambda runs: runs.completed([str(run.id)])) == []
    client.set_flow_run_state(run.id, Completed(), force=True)
    assert asked(lambda runs: runs.completed([str(run.id)])) == [str(run.id)]
    made = client.create_flow_run(FLOWS["extend-prefix"], parameters={"request": REQUEST})
    assert asked(lambda runs: runs.find(made.idempotency_key or "none")) in (None, str(made.id))


# --- a process that lives -----------------------------------------------------------------------------------------


@pytest.fixture
def left(monkeypatch):
    """The codes with which the process would have ended."""
    codes = []
    monkeypatch.setattr(pulse.os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("state", ["Crashed", "AwaitingRetry", "Pending"])
def test_a_run_that_lives_and_is_taken_for_dead_is_running_again(client, run, left, state):
    from prefect import states

    client.set_flow_run_state(run.id, getattr(states, state)(), force=True)
    Pulse(run.id, run.run_count).look()
    assert (client.read_flow_run(run.id).state_name, left) == ("Running", [])


def test_a_run_that_is_well_is_left_alone(client, run, left):
    before = client.read_flow_run(run.id).state
    Pulse(run.id, run.run_count).look()
    assert (client.read_flow_run(run.id).state.id, left) == (before.id, [])


def test_the_process_of_a_run_that_goes_on_elsewhere_ends(client, run, left):
    from prefect.states import AwaitingRetry, Pending, Running

    for state in (AwaitingRetry(), Pending(), Running()):
        client.set_flow_run_state(run.id, state, force=True)
    assert client.read_flow_run(run.id).run_count > run.run_count
    Pulse(run.id, run.run_count).look()
    assert left == [0]


def test_the_process_of_a_run_that_was_cancelled_without_its_hearing_ends(client, run, left):
    from prefect.states import Cancelled

    client.set_flow_run_state(run.id, Cancelled(), force=True)
    Pulse(run.id, run.run_count).look()
    assert left == [0]


def test_while_the_server_does_not_answer_nothing_is_done(run, left, monkeypatch):
    import httpx

    def away(**_):
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(pulse, "get_client", away)
    Pulse(run.id, run.run_count).look()
    assert left == []

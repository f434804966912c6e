"""What becomes of runs whose worker is gone, and of those whose worker is not."""

import pytest

MINE, OTHER = "this-machine", "that-machine"


@pytest.fixture(scope="module")
def deployment(client):
    from prefect import flow

    from flows.hosting.deployments import make_pool, pool_name

    @flow
    def nothing():
        pass

    make_pool("process")
    return client.create_deployment(client.create_flow(nothing), "nothing", work_pool_name=pool_name())


def held(client, deployment, state, worker=None):
    """A run in a state, with the name of the worker that has taken it."""
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, state, force=True)
    client.update_flow_run(run.id, infrastructure_pid="4711")
    if worker:
        client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
    return run.id


def after_recovery(client, run_id, *, alone=False):
    from flows.hosting.deployments import pool_name
    from flows.hosting.recovery import recover

    recover(pool_name(), MINE, alone=alone)
    return client.read_flow_run(run_id)


def test_a_run_that_was_going_is_scheduled_again_with_its_turn_and_without_its_process(client, deployment):
    from prefect.states import Running

    run_id = held(client, deployment, Running(), MINE)
    turn = client.read_flow_run(run_id).expected_start_time
    run = after_recovery(client, run_id)
    assert (run.state.type.value, run.state.name, run.infrastructure_pid) == ("SCHEDULED", "AwaitingRetry", None)
    assert run.next_scheduled_start_time == turn


def test_a_run_that_was_being_cancelled_is_cancelled(client, deployment):
    from prefect.states import Cancelling

    run = after_recovery(client, held(client, deployment, Cancelling(), MINE))
    assert run.state.name == "Cancelled"


def test_another_workers_run_is_left_alone(client, deployment):
    from prefect.states import Running

    run = after_recovery(client, held(client, deployment, Running(), OTHER), alone=True)
    assert (run.state.name, run.infrastructure_pid) == ("Running", "4711")


def test_a_run_that_no_worker_had_signed_yet_was_the_only_workers(client, deployment):
    from prefect.states import Pending

    run_id = held(client, deployment, Pending())
    assert after_recovery(client, run_id).state.name == "Pending"
    assert after_recovery(client, run_id, alone=True).state.name == "AwaitingRetry"

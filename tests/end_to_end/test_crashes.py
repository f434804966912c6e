"""A run that is killed at any moment goes on from what is there: the same bytes, one bill, nothing done twice.

On one machine, where the request is typed again; and on two that share a store on S3 and a ledger on PostgreSQL, of
which one is lost and the other goes on with the run. Random kills without end: benchmarks/crashes.py.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import s3fs

from tests.support import s3 as s3_server
from tests.support.chains import (
    Chain,
    Ended,
    Ground,
    Runner,
    Server,
    lora_of,
    pruned,
    reference,
    requests_in,
    run_of,
    verdict,
)
from tests.support.crashing import STEPS
from tests.support.flaky import Flaky
from tests.support.machines import Machine, deploy, until

pytestmark = [pytest.mark.long, pytest.mark.slow(seconds=250)]

NAME = "audio-extend-prefix"
AT_ITS_END = 10**9


@pytest.fixture(scope="module")
def ground(tmp_path_factory, s3_endpoint, postgresql, prefect_database):
    folder = tmp_path_factory.mktemp("crashes")
    prefect_database.copy_to(folder / "server" / "prefect")
    os.environ.update(s3_server.environment(s3_endpoint))
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("data", exist_ok=True)
    server, runner = Server(folder / "server"), Runner(folder / "runner")
    yield Ground(folder, runner, server, requests_in(folder), s3_server.environment(s3_endpoint), postgresql)
    runner.close()
    server.kill()


@pytest.fixture(scope="module")
def whole(ground):
    """A run that is let alone."""
    return reference(ground, NAME)


@pytest.fixture(
    scope="module",
    params=[1, 2],
    ids=["typed again", "on two machines in turn"],
)
def chain(request, ground, whole):
    """A run that is killed once in each step, at a random touch of it, and then let go on to its end."""
    chain = Chain(request.param, len(STEPS), NAME, request.param == 2, request.param, random.Random(6))
    settings = ground.settings(chain)
    homes = [ground.folder / f"killed-{request.param}-{machine}" for machine in range(chain.machines)]
    touched = json.loads(whole.homes[0].with_suffix(".counts").read_text())
    command = ["run", NAME, str(ground.requests[NAME])]
    tries, run_id = {}, None
    for number, step in enumerate([*STEPS, None]):
        home = homes[number % chain.machines]
        home.mkdir(exist_ok=True)
        point = AT_ITS_END if step == "bill" else chain.dice.randint(1, touched.get(step, 1))
        kill = {"target": "tree", "step": step, "point": point} if step else None
        tries[step] = ground.runner.run(home, command, settings, kill, run_id)
        run_id = run_id or (run_of(homes[0]) if chain.machines == 2 else None)
    ended = Ended(tries[None], len(STEPS), len(tries), homes, settings)
    return {"chain": chain, "tries": tries, "ended": ended}


def test_it_is_killed_in_every_step(chain):
    codes = {step: told["code"] for step, told in chain["tries"].items()}
    assert codes == dict.fromkeys(STEPS, -signal.SIGKILL) | {None: 0}, chain["tries"][None]["log"]


def test_no_step_that_had_finished_is_done_again(chain):
    worked = {step: list(dict.fromkeys(told["worked"])) for step, told in chain["tries"].items() if step}
    began = 0  # with the step in which the last try was killed
    for step in STEPS:
        ended = STEPS.index(step)
        again = list(STEPS[began : ended + 1])
        if step == "encode":
            again.insert(-1, "download")  # of the preview's sound: it comes after fit
        assert worked[step] == again
        began = ended


def test_killed_after_its_bill_it_is_told_again_or_delivered_again_and_nothing_else(chain):
    last = chain["tries"][None]
    if chain["chain"].machines == 1:
        assert last["worked"] == [] and "had ended and was billed; this is what it made" in last["log"]
    else:
        assert last["worked"] == ["upload", "bill"]


def test_it_ends_as_if_it_had_been_let_alone(chain, ground, whole):
    """The bytes of the LoRA, one bill, what the store holds, and nothing that pruning leaves."""
    assert verdict(ground, chain["chain"], chain["ended"], whole) == []


def test_its_folder_holds_what_that_of_the_other_run_holds(chain, whole):
    def files(result):
        return {file["file_name"]: file["file_size"] for file in result.values() if file and "file_name" in file}

    killed, alone = files(chain["ended"].result), files(whole.result)
    assert killed.keys() == alone.keys()
    assert killed["lora.safetensors"] == alone["lora.safetensors"]


def test_after_pruning_the_store_still_answers_every_step_of_the_run(ground, whole):
    pruned(ground, whole.homes[0], whole.settings)
    again = ground.runner.run(whole.homes[0], ["run", NAME, str(ground.requests[NAME])], whole.settings)
    assert again["code"] == 0
    assert "reused from earlier runs: extract, match, fit, fit-previews, encode, train, validate\n" in again["log"]


def test_all_artifacts_that_are_damaged_are_mended_in_one_run(ground, whole):
    kept = [path for kind in ("blobs", "files") for path in (whole.homes[0] / "store" / kind).rglob("*")]
    for path in filter(Path.is_file, kept):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if len(content) % 2 else b"")
    again = ground.runner.run(whole.homes[0], ["run", NAME, str(ground.requests[NAME])], whole.settings)
    assert again["code"] == 0, again["log"][-3000:]
    ended = Ended(again, 0, 1, whole.homes, whole.settings)
    assert lora_of(ended.result) == lora_of(whole.result)


# --- as a team does it: workers, and a server that looks after their runs -------------------------------------------


def test_a_run_whose_worker_is_lost_goes_on_with_the_worker_of_another_machine(ground, whole):
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    chain = Chain(77, 1, NAME, True, 2, random.Random(0))
    settings = ground.settings(chain)
    first = Machine(ground.folder / "first", settings)
    deploy(first.environment)
    asked = {"request": json.loads(ground.requests[NAME].read_text())}
    second = None
    try:
        with temporary_settings({PREFECT_API_URL: ground.server.url}), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{NAME}/{NAME}")
            run = client.create_flow_run_from_deployment(deployment.id, parameters=asked)
            until(lambda: first.runs("tasks.training"))
            time.sleep(6)  # some of its steps are done
            first.lose()
            client.set_flow_run_state(run.id, Crashed(message="nothing was heard of it"), force=True)
            second = Machine(ground.folder / "second", settings)
            until(lambda: client.read_flow_run(run.id).state_name in ("Completed", "Failed"))
            assert client.read_flow_run(run.id).state_name == "Completed", second.log
    finally:
        for machine in filter(None, (first, second)):
            machine.lose()
    delivered = s3fs.S3FileSystem(use_listings_cache=False).cat_file(f"data/77/outputs/{run.id}/lora.safetensors")
    assert delivered == lora_of(whole.result)
    bills = json.loads(ground.runner.run(ground.folder / "second", ["bills", "--json"], settings)["out"])
    assert [bill["run_id"] for bill in bills] == [str(run.id)]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_run_on_s3_that_fails_now_and_then_waits_and_goes_on(ground, whole, share):
    chain = Chain(int(1000 * share), 0, NAME, True, 1, random.Random(0))
    with Flaky(ground.s3["AWS_ENDPOINT_URL"], share, seed=3) as service:
        settings = ground.settings(chain) | {"AWS_ENDPOINT_URL": service.url}
        home = ground.folder / f"flaky-{chain.seed}"
        told = ground.runner.run(home, ["run", NAME, str(ground.requests[NAME])], settings)
        assert told["code"] == 0, told["log"][-3000:]
        assert service.failed > share * service.asked / 2
    ended = Ended(told, 0, 1, [home], ground.settings(Chain(0, 0, NAME, True, 1, chain.dice)))
    delivered = s3fs.S3FileSystem(use_listings_cache=False).cat_file(
        f"data/{chain.seed}/outputs/{ended.result['lora_file']['url'].split('/outputs/')[1].split('?')[0]}"
    )
    assert delivered == lora_of(whole.result)

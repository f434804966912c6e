"""A power cut at any moment: what was said to be there is there, and a run that was billed has what it was billed for.

Cuts without end: benchmarks/power_cut.py.
"""

import json
import random

import pytest

from tests.support.chains import Ground, Runner, Server, lora_of, path_of, reference, requests_in
from tests.support.power import Disk, is_possible
from tests.support.power_cuts import cut_once

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow(seconds=100),
    pytest.mark.skipif(not is_possible(), reason="file systems cannot be mounted here"),
]

NAME = "audio-extend-prefix"


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power")
    server, runner = Server(folder / "server"), Runner(folder / "runner")
    yield Ground(folder, runner, server, requests_in(folder))
    runner.close()
    server.kill()


@pytest.fixture(scope="module")
def whole(ground):
    return reference(ground, NAME)


def test_a_run_whose_power_is_cut_ends_in_the_same_bytes_with_one_bill(ground, whole, tmp_path):
    with Disk(tmp_path) as disk:
        moment = random.Random(11).uniform(8, 12)
        assert cut_once(ground, disk, NAME, moment, whole) == []


def test_after_a_cut_right_after_its_end_everything_that_was_delivered_and_billed_is_whole(ground, whole, tmp_path):
    with Disk(tmp_path) as disk:
        home = disk.place / "home"
        server = Server(home)
        settings = {"PREFECT_API_URL": server.url, "LTX_FLOWS_ALLOW_FILE_ROOT": str(ground.folder)}
        told = ground.runner.run(home, ["run", NAME, str(ground.requests[NAME])], settings)
        server.kill()
        disk.cut()
        result = json.loads(told["out"])
        assert lora_of(result) == lora_of(whole.result)
        files = [file for file in result.values() if file and "file_size" in file]
        assert [path_of(file).stat().st_size for file in files] == [file["file_size"] for file in files]
        bills = json.loads(ground.runner.run(home, ["bills", "--json"], settings)["out"])
        assert len(bills) == 1

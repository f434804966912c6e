"""The trial step before a training: it changes nothing, and settles what is recomputed from what is free."""

import pytest
import torch

from models.engine.batches import Feed
from models.engine.preflight import block_bytes, blocks_to_recompute, preflight, remembered_bytes
from models.engine.trainer import LoraTraining, Schedule
from models.ltx2.adapter import add_adapter, export
from schemas.errors import DeviceFull
from tasks.training.__main__ import run
from tasks.training.job import Prepared
from tests.support.jobs import adapter_of, events_of, job_of
from tests.support.tensors import CPU, PLANS, random_sample, tiny_transformer


def training(plan):
    transformer = tiny_transformer(*plan.modalities)
    add_adapter(transformer, 4, plan.modalities, 0)
    return LoraTraining(transformer, Schedule(steps=1, learning_rate=1))


def batch(plan):
    return Feed([random_sample(plan)], Schedule(steps=1, learning_rate=1), CPU).worst()


@pytest.mark.parametrize(
    ("free", "recomputed"), [(-5, 48), (0, 48), (9, 48), (10, 47), (109, 38), (479, 1), (480, 0), (9999, 0)]
)
def test_as_many_blocks_are_remembered_as_fit_the_free_memory(free, recomputed):
    assert blocks_to_recompute(48, free, 10) == recomputed


def test_a_recomputed_block_is_not_remembered():
    module, streams = training(PLANS["masked"]), batch(PLANS["masked"])
    kept = {}
    for recomputed in (0, 1, 2):
        module.recomputed = recomputed
        kept[recomputed] = remembered_bytes(module, streams)
    assert kept[0] > kept[1] > kept[2]
    assert block_bytes(module, streams, 2) == kept[1] - kept[2]
    assert kept[0] - kept[1] == pytest.approx(kept[1] - kept[2], rel=0.1)


def test_the_trial_step_leaves_the_adapter_and_the_generators_as_they_are():
    module = training(PLANS["both prefixes"])
    before, random = export(module.base[0]), torch.get_rng_state()
    fit = preflight(module, batch(PLANS["both prefixes"]), CPU, recompute_all=False)
    assert (fit.tokens, fit.layers, fit.recomputed) == (30, 2, 0)
    assert all(weight.equal(before[key]) for key, weight in export(module.base[0]).items())
    assert all(weight.grad is None for weight in module.adapter)
    assert torch.get_rng_state().equal(random)


def test_the_trial_step_takes_the_longest_sample():
    short, long = random_sample(PLANS["audio prefix"]), random_sample(PLANS["audio prefix"])
    short.latents["target", "audio"] = short.latents["target", "audio"][:6]
    feed = Feed([short, long, short], Schedule(steps=1, learning_rate=1), CPU)
    assert feed.worst()[0]["audio"].length == 10


def test_recomputing_everything_trains_to_the_same_bytes(tmp_path):
    plain, frugal = (
        job_of(PLANS["masked"], tmp_path / name, recompute_all=name == "frugal") for name in ("plain", "frugal")
    )
    fits = [next(event for event in events_of(job) if isinstance(event, Prepared)) for job in (plain, frugal)]
    assert [fit.recomputed for fit in fits] == [0, 2]
    assert adapter_of(frugal) == adapter_of(plain)


def test_running_out_of_memory_is_an_error_of_its_own(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(LoraTraining, "training_step", full)
    with pytest.raises(DeviceFull, match=r"Tried to allocate 2 GiB$"):
        run(job_of(PLANS["audio prefix"], tmp_path / "job"), lambda event: None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_trial_step_counts_memory():
    device = torch.device("cuda")
    plan = PLANS["both references"]
    transformer = tiny_transformer().to(device)
    add_adapter(transformer, 4, plan.modalities, 0)
    module = LoraTraining(transformer, Schedule(steps=1, learning_rate=1)).to(device)
    streams = Feed([random_sample(plan)], Schedule(steps=1, learning_rate=1), device).worst()
    fit = preflight(module, streams, device, recompute_all=False)
    assert fit.recomputed == 0
    assert fit.peak_bytes > 0 and fit.free_bytes > fit.peak_bytes

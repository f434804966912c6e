"""Compiled blocks and attention kernels: the same step, and a way back where a machine cannot."""

import pytest
import torch

from models.engine.acceleration import COMPILE_FROM_STEPS, compile_blocks, worth_compiling
from models.engine.batches import Feed
from models.engine.trainer import LoraTraining, Schedule
from models.ltx2.adapter import add_adapter
from models.ltx2.attention import pick_attention, use_attention
from models.ltx2.transformer import run_block
from models.weights.lora_linear import visits
from tasks.training.job import Prepared
from tests.support.jobs import events_of, job_of
from tests.support.tensors import CPU, PLANS, random_sample, tiny_transformer

GPU = torch.device("cuda")
# Lightning 2.6 with torch 2.13, on its own
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def own_compiler():
    torch.use_deterministic_algorithms(False)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.use_deterministic_algorithms(False)


def training(recomputed=0):
    plan, schedule = PLANS["audio prefix"], Schedule(steps=1, learning_rate=1)
    model = tiny_transformer(*plan.modalities)
    add_adapter(model, 4, plan.modalities, 0)
    return LoraTraining(model, schedule, recomputed=recomputed), Feed([random_sample(plan)], schedule, CPU).worst()


def step(module, batch):
    loss = module.losses(batch[0])
    return [loss, *torch.autograd.grad(loss.sum(), list(module.adapter))]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of torch's own tracing
def test_all_blocks_share_two_graphs_and_compute_the_same_recomputed_or_not():
    module, batch = training()
    eager = step(module, batch)
    assert compile_blocks(module, batch, backend="aot_eager") is None
    module.recomputed = 1
    for compiled, wanted in zip(step(module, batch), eager, strict=True):
        torch.testing.assert_close(compiled, wanted)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the first block's input has no gradient


def broken_compiler(*_):
    raise RuntimeError("no compiler here")


@pytest.mark.filterwarnings("ignore")
def test_where_blocks_cannot_be_compiled_they_stay_as_they_were():
    module, batch = training()
    assert "no compiler here" in compile_blocks(module, batch, backend=broken_compiler)
    assert module.run_block is run_block


@pytest.mark.parametrize(
    ("wanted", "device", "steps", "away", "compiles"),
    [
        ("auto", GPU, COMPILE_FROM_STEPS, False, True),
        ("auto", GPU, COMPILE_FROM_STEPS - 1, False, False),
        ("auto", CPU, 20_000, False, False),
        ("on", CPU, 1, False, True),
        ("on", GPU, 20_000, True, False),
        ("off", GPU, 20_000, False, False),
    ],
)
def test_compiling_is_for_runs_that_gain_from_it(wanted, device, steps, away, compiles):
    assert worth_compiling(wanted, device, steps, visits=away) == compiles


def test_a_run_whose_bytes_must_repeat_uses_the_attention_that_promises_it():
    assert pick_attention(GPU, deterministic=True) == pick_attention(CPU, deterministic=False) == "native"


def test_a_training_says_how_it_computes(tmp_path):
    job = job_of(PLANS["audio prefix"], tmp_path / "job", offload_blocks=1, compile="on")
    prepared = next(event for event in events_of(job) if isinstance(event, Prepared))
    assert (prepared.attention, prepared.compiled) == ("native", False)  # weights that visit cannot be traced


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_visiting_weights_train_the_same_under_either_attention():
    plan, schedule = PLANS["masked"], Schedule(steps=1, learning_rate=1)
    batch = Feed([random_sample(plan)], schedule, GPU).worst()
    found = []
    for away in (0, 2):
        model = tiny_transformer(*plan.modalities, device=GPU, away=away)
        use_attention(model, GPU, deterministic=bool(away))
        add_adapter(model, 4, plan.modalities, 0)
        assert visits(model) == bool(away)
        found.append(step(LoraTraining(model, schedule), batch))
    for resident, visiting in zip(*found, strict=True):
        torch.testing.assert_close(visiting, resident)

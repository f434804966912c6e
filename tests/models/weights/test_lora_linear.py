"""Frozen layers with an adapter, in one operation: PEFT's numbers, and those of a base kept in 8 bits."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import nn

from models.engine.batches import Feed
from models.engine.trainer import LoraTraining, Schedule
from models.ltx2.adapter import add_adapter
from models.ltx2.loading import load_transformer
from models.weights.lora_linear import (
    AdaptedLinear,
    StoredLinear,
    dequantize,
    multiplies_fp8,
    product,
    product_back,
    quantize,
    visits,
)
from models.weights.offload import Offload, layers_to_send_away
from tests.support.jobs import adapter_of, events_of, job_of
from tests.support.tensors import CPU, PLANS, random_sample, tiny_base


def layers(base):
    """The same weights in PEFT's layer and in ours."""
    made = []
    for kind in (PeftLinear, AdaptedLinear):
        torch.manual_seed(0)
        layer = kind(base, "default", LoraConfig(), r=4, lora_alpha=4)
        nn.init.normal_(layer.lora_B["default"].weight)
        made.append(layer)
    return made


def gradients(layer, x):
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    return [layer(x), *torch.autograd.grad(layer(x).square().sum(), [x, *weights])]


def test_values_and_gradients_are_those_of_peft():
    peft, ours = layers(nn.Linear(16, 24).requires_grad_(False))
    x = torch.randn(2, 5, 16, requires_grad=True)
    for mine, theirs in zip(gradients(ours, x), gradients(peft, x), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradients_agree_with_finite_differences():
    _, ours = layers(nn.Linear(6, 5).requires_grad_(False).double())
    ours.double()
    x = torch.randn(3, 6, dtype=torch.double, requires_grad=True)
    weights = [ours.lora_A["default"].weight, ours.lora_B["default"].weight]
    found = torch.autograd.grad(ours(x).sum(), [x, *weights])
    for variable, gradient in zip([x, *weights], found, strict=True):
        torch.testing.assert_close(gradient.double(), slope(ours, x, variable), rtol=1e-4, atol=1e-5)


def slope(layer, x, variable, step=1e-4):
    differences = torch.zeros_like(variable)
    with torch.no_grad():
        for place in range(variable.numel()):
            flat = variable.view(-1)
            flat[place] += step
            above = layer(x).sum()
            flat[place] -= 2 * step
            differences.view(-1)[place] = (above - layer(x).sum()) / (2 * step)
            flat[place] += step
    return differences


def test_a_bfloat16_base_gets_float32_gradients_and_remembers_its_input_once():
    _, ours = layers(nn.Linear(64, 64).requires_grad_(False).bfloat16())
    for weight in (ours.lora_A["default"].weight, ours.lora_B["default"].weight):
        weight.data = weight.data.float()
    x = torch.randn(10, 64, dtype=torch.bfloat16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        result = ours(x)
    assert result.dtype == torch.bfloat16
    assert not [t for t in kept if t.dtype == torch.float32]
    assert sum(t.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for t in kept) == 1
    assert [g.dtype for g in gradients(ours, x)[2:]] == [torch.float32, torch.float32]


@pytest.mark.parametrize(("dtype", "error"), [(torch.int8, 0.5 / 127), (torch.float8_e4m3fn, 2**-4)])
def test_a_weight_in_8_bits_comes_back_to_its_rounding(dtype, error):
    weight = torch.randn(32, 64)
    kept, scale = quantize(weight, dtype)
    assert kept.element_size() == 1 and scale.shape == (32, 1)
    largest = weight.abs().amax(1, keepdim=True)
    assert ((dequantize(kept, scale, torch.float32) - weight).abs() <= error * largest * 1.001).all()


@pytest.mark.parametrize("kept_as", ["int8", "fp8"])
@pytest.mark.parametrize("name", ["audio prefix", "masked"])
def test_a_base_in_8_bits_has_nearly_the_same_loss_and_gradient(name, kept_as):
    plan, schedule = PLANS[name], Schedule(steps=1, learning_rate=1)
    streams = Feed([random_sample(plan)], schedule, CPU).batch(0)[0]
    found = []
    for weights in ("bf16", kept_as):
        model = load_transformer(tiny_base(), plan.modalities, CPU, torch.float32, weights)
        add_adapter(model, 4, plan.modalities, 0)
        module = LoraTraining(model, schedule)
        loss = module.losses(streams)
        b = [weight for weight in module.adapter if weight.shape[1] == 4]
        found.append((loss, torch.cat([g.flatten() for g in torch.autograd.grad(loss.sum(), b)])))
    (whole, gradient), (eight, near) = found
    assert not eight.equal(whole)
    torch.testing.assert_close(eight, whole, rtol=0.02, atol=0)
    assert torch.cosine_similarity(gradient, near, dim=0) > 0.98


def test_linear_layers_of_blocks_are_kept_in_8_bits_and_those_outside_are_not():
    model = load_transformer(tiny_base(), ("audio",), CPU, torch.float32, "int8")
    kept = {name for name, module in model.named_modules() if isinstance(module, StoredLinear)}
    assert "transformer_blocks.0.audio_attn1.to_q" in kept and "transformer_blocks.1.audio_ff.net.2" in kept
    assert all(name.startswith("transformer_blocks.") and "audio_" in name for name in kept)
    assert type(model.audio_proj_in) is nn.Linear


def test_a_training_on_a_base_in_8_bits_differs_and_repeats(tmp_path):
    jobs = [
        job_of(PLANS["audio prefix"], tmp_path / str(index), base_weights=weights)
        for index, weights in enumerate(("bf16", "int8", "int8"))
    ]
    for job in jobs:
        events_of(job)
    plain, first, second = (adapter_of(job) for job in jobs)
    assert first == second != plain


@pytest.mark.parametrize("kept_as", ["bf16", "int8"])
def test_weights_that_only_visit_the_device_train_the_same(kept_as):
    plan, schedule = PLANS["masked"], Schedule(steps=1, learning_rate=1)
    streams = Feed([random_sample(plan)], schedule, CPU).batch(0)[0]
    found = []
    for away in (0, 1):
        model = load_transformer(tiny_base(), plan.modalities, CPU, torch.float32, kept_as, away)
        assert visits(model) == bool(away)
        add_adapter(model, 4, plan.modalities, 0)
        module = LoraTraining(model, schedule)
        loss = module.losses(streams)
        found.append([loss, *torch.autograd.grad(loss.sum(), list(module.adapter))])
    assert all(resident.equal(visiting) for resident, visiting in zip(*found, strict=True))


def test_weights_of_the_first_blocks_visit_and_the_others_stay():
    model = load_transformer(tiny_base(), ("audio",), CPU, torch.float32, "bf16", 1)
    away = {name for name, module in model.named_modules() if isinstance(module, StoredLinear) and module.visits}
    assert away and all(name.startswith("transformer_blocks.0.") for name in away)


def test_what_came_next_the_last_time_is_sent_ahead():
    weights, there = [torch.randn(2, 2) for _ in range(3)], Offload(CPU)
    for _ in range(2):
        assert all(there.here(weight).equal(weight) for weight in weights)
    there.here(weights[0])
    assert [weight.equal(weights[1]) for weight in there.coming.values()] == [True]
    there.here(weights[0], back=True)
    assert not there.coming  # nothing is known of the way back yet


@pytest.mark.parametrize(("free", "away"), [(100, 0), (60, 1), (40, 3), (5, 4)])
def test_as_few_blocks_leave_the_device_as_its_memory_asks(free, away):
    assert layers_to_send_away(layers=4, layer_bytes=10, other_bytes=5, free_bytes=free, spare_bytes=20) == away


def test_fp8_numbers_are_multiplied_as_they_are():
    x, linear = torch.randn(40, 64, dtype=torch.bfloat16), nn.Linear(64, 96).bfloat16()
    weight, scale = quantize(linear.weight.detach(), torch.float8_e4m3fn)
    assert multiplies_fp8(x, weight) and not multiplies_fp8(x.float(), weight)
    gradient = torch.randn(40, 96, dtype=torch.bfloat16)
    for found, exact in (
        (product(x, weight, scale, linear.bias), linear(x)),
        (product_back(gradient, weight, scale), gradient @ linear.weight),
    ):
        assert found.dtype == torch.bfloat16
        assert (found - exact).float().norm() < 0.05 * exact.float().norm()

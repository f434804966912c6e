"""Training an adapter on the tiny base: it learns, everything moves, nothing else does."""

from dataclasses import replace

import lightning
import pytest
import torch

from models.engine.batches import Feed
from models.engine.trainer import LoraTraining, Schedule, sample_index, trainer_options
from models.ltx2.adapter import add_adapter, export
from models.ltx2.transformer import velocities
from models.noise import generator_of
from models.training_inputs import conditioned, training_loss, training_streams
from tests.support.tensors import CPU, PLANS, random_sample, tiny_transformer

pytestmark = pytest.mark.slow(seconds=40)


def training(plan, schedule, recomputed=0):
    transformer = tiny_transformer(*plan.modalities)
    add_adapter(transformer, 4, plan.modalities, schedule.seed)
    return LoraTraining(transformer, schedule, recomputed=recomputed)


def feed(plan, schedule, samples=1, **shared):
    return Feed([random_sample(plan, seed, f"clip{seed}") for seed in range(samples)], schedule, CPU, **shared)


def fit(module, batches, *callbacks, resume=None):
    trainer = lightning.Trainer(**trainer_options(module.schedule, CPU), callbacks=list(callbacks))
    trainer.fit(module, batches, ckpt_path=resume)
    return trainer


def losses_at(transformer, sample, draws=range(6)):
    """Mean loss over fixed draws of sigma and noise."""
    total = 0.0
    for draw in draws:
        streams = training_streams(sample, generator_of("noise", 99, draw))
        with torch.no_grad():
            predicted = velocities(transformer, {kind: each.input for kind, each in streams.items()})
        total += sum(loss.item() for loss in training_loss(predicted, streams).values())
    return total / len(draws)


@pytest.mark.parametrize("name", PLANS)
def test_overfitting_one_clip_lowers_its_loss_and_moves_every_adapter(name):
    module, batches = (make(PLANS[name], Schedule(steps=25, learning_rate=3e-2)) for make in (training, feed))
    before = losses_at(module.base[0], batches.samples[0])
    fit(module, batches)
    assert losses_at(module.base[0], batches.samples[0]) < 0.92 * before
    moved = {key: weight.ne(0).any().item() for key, weight in export(module.base[0]).items()}
    assert moved and all(moved.values())


class Save(lightning.Callback):
    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


class Keep(lightning.Callback):
    def __init__(self):
        self.kept = []

    def on_train_batch_end(self, trainer, module, *_):
        self.kept.append(module.measured)


def test_a_checkpoint_holds_the_adapter_and_nothing_of_the_base(tmp_path):
    plan, schedule = PLANS["audio prefix"], Schedule(steps=2, learning_rate=1e-2)
    module = training(plan, schedule)
    fit(module, feed(plan, schedule), Save(tmp_path / "2.ckpt", step=2))
    state = torch.load(tmp_path / "2.ckpt", weights_only=True)["state_dict"]
    assert len(state) == len(module.adapter)
    assert sum(weight.numel() for weight in state.values()) == sum(w.numel() for w in module.adapter)


def test_losses_are_measured_per_modality_and_the_rate_falls_to_a_tenth():
    plan, schedule = PLANS["both prefixes"], Schedule(steps=5, learning_rate=1e-2)
    module, batches = training(plan, schedule), feed(plan, schedule)
    expected = module.losses(batches.batch(0)[0])
    trainer = fit(module, batches, kept := Keep())
    assert kept.kept[0].losses.equal(expected.detach())
    assert kept.kept[0].losses.shape == (2,)
    assert kept.kept[0].tokens == 20 + 10
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


def test_the_gradient_norm_is_that_of_all_modalities_before_clipping():
    plan, schedule = PLANS["both prefixes"], Schedule(steps=1, learning_rate=1e-2)
    module, batches = training(plan, schedule), feed(plan, schedule)
    gradients = torch.autograd.grad(module.losses(batches.batch(0)[0]).sum(), list(module.adapter))
    kept = Keep()
    fit(module, batches, kept)
    assert kept.kept[0].gradient_norm == pytest.approx(torch.cat([g.flatten() for g in gradients]).norm().item())


@pytest.mark.parametrize("name", PLANS)
def test_every_weight_of_the_adapter_gets_a_gradient_and_nothing_else_does(name):
    plan, schedule = PLANS[name], Schedule(steps=1, learning_rate=1e-2)
    module = training(plan, schedule)
    module.losses(feed(plan, schedule).batch(0)[0]).sum().backward()
    with_gradient = {key for key, weight in module.base[0].named_parameters() if weight.grad is not None}
    assert with_gradient == {key for key, _ in module.base[0].named_parameters() if ".lora_" in key}


@pytest.mark.parametrize(("name", "absent"), [("audio prefix", "attn1."), ("video prefix", "audio_attn1.")])
def test_an_absent_modality_has_neither_weights_nor_adapters(name, absent):
    plan = PLANS[name]
    model = training(plan, Schedule(steps=1, learning_rate=1e-2)).base[0]
    block = dict(model.transformer_blocks[0].named_parameters())
    assert all(weight.is_meta for key, weight in block.items() if key.startswith(absent))
    assert not [key for key in block if key.startswith(absent) and ".lora_" in key]


def test_what_only_a_modality_without_loss_would_train_gets_no_gradient():
    plan, schedule = PLANS["both prefixes"], Schedule(steps=1, learning_rate=1e-2)
    module = training(plan, schedule)
    streams = feed(plan, schedule).batch(0)[0]
    module.losses({**streams, "audio": given(streams["audio"])}).sum().backward()
    last = dict(module.base[0].transformer_blocks[-1].named_parameters())
    unused = [w for key, w in last.items() if ".lora_" in key and key.startswith("video_to_audio")]
    used = [w for key, w in last.items() if ".lora_B." in key and key.startswith(("attn", "audio_to_video"))]
    assert len(unused) == 8 and all(weight.grad.eq(0).all() for weight in unused)
    assert len(used) == 12 and all(weight.grad.ne(0).any() for weight in used)


def given(stream):
    """The stream as one that only guides the other: clean throughout, nothing of it learned."""
    tokens = stream.input.tokens
    clean = replace(tokens, sigma=tokens.sigma * 0, learn=torch.zeros_like(tokens.learn))
    return replace(stream, input=replace(stream.input, tokens=clean))


def test_every_epoch_uses_every_sample_in_an_order_of_its_own():
    epochs = [[sample_index(draw, 5, seed=0) for draw in range(5 * epoch, 5 * epoch + 5)] for epoch in range(3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_modalities_are_noised_independently():
    streams = training_streams(conditioned(random_sample(PLANS["both references"])), generator_of("noise", 0, 0))
    assert streams["video"].input.sigma != streams["audio"].input.sigma
    assert streams["video"].input.tokens.latent.shape[1] == 3 * 1 * 1 + 5 * 2 * 2
    assert streams["video"].velocity.shape == (1, 20, 128)


@pytest.mark.parametrize("recomputed", [1, 2])
def test_recomputed_blocks_train_to_the_same_bytes(recomputed):
    plan, schedule = PLANS["masked"], Schedule(steps=3, learning_rate=1e-2)
    plain, saving = training(plan, schedule), training(plan, schedule, recomputed)
    for module in (plain, saving):
        fit(module, feed(plan, schedule))
    wanted = export(plain.base[0])
    assert all(weight.equal(wanted[key]) for key, weight in export(saving.base[0]).items())


def test_a_feed_goes_on_where_a_checkpoint_was_taken():
    first, second = (feed(PLANS["audio prefix"], Schedule(steps=4, learning_rate=1), samples=3) for _ in range(2))
    batches = iter(first)
    assert [next(batches), next(batches)] and first.state_dict() == {"done": 2}
    second.load_state_dict(first.state_dict())
    assert [batch[0]["audio"].velocity.sum() for batch in second] == [
        first.batch(step)[0]["audio"].velocity.sum() for step in (2, 3)
    ]


def test_batches_made_ahead_in_a_thread_are_those_of_their_steps():
    batches = feed(PLANS["masked"], Schedule(steps=4, learning_rate=1), samples=3)
    for step, (streams,) in enumerate(batches):
        assert streams["video"].input.tokens.latent.equal(batches.batch(step)[0]["video"].input.tokens.latent)


def test_devices_share_the_draws_of_a_step_without_repetition():
    schedule = Schedule(steps=3, learning_rate=1, batch=2)
    shares = [feed(PLANS["masked"], schedule, rank=rank, devices=2) for rank in range(2)]
    assert [[list(share.draws(step)) for share in shares] for step in range(3)] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 7]],
        [[8, 9], [10, 11]],
    ]

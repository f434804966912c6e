"""Training an adapter on the tiny base: it learns, everything moves, and a resumed run gives the same bytes."""

import lightning
import pytest
import torch

from models.adapter import add_adapter, export
from models.noising import step_generator
from models.trainer import (
    LoraTraining,
    Schedule,
    Ticks,
    sample_index,
    trainer_options,
    training_loss,
    training_streams,
)
from models.transformer import velocities
from tests.tensors import CPU, PLANS, random_sample, tiny_transformer

# Lightning 2.6 with torch 2.13, on its own
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def own_determinism():
    yield
    torch.use_deterministic_algorithms(False)


def training(plan, schedule, samples=1, checkpointing=False):
    transformer = tiny_transformer(*plan.modalities)
    add_adapter(transformer, 4, plan.modalities, schedule.seed)
    clips = [random_sample(plan, seed, f"clip{seed}") for seed in range(samples)]
    return LoraTraining(transformer, clips, schedule, checkpointing=checkpointing)


def fit(module, *callbacks, resume=None, **options):
    trainer = lightning.Trainer(**{**trainer_options(module.schedule, CPU), "callbacks": list(callbacks), **options})
    trainer.fit(module, ckpt_path=resume)
    return trainer


def losses_at(transformer, sample, draws=range(6)):
    """Mean loss over fixed draws of sigma and noise."""
    total = 0.0
    for draw in draws:
        streams = training_streams(sample, step_generator(99, draw))
        with torch.no_grad():
            predicted = velocities(transformer, {kind: each.input for kind, each in streams.items()})
        total += sum(loss.item() for loss in training_loss(predicted, streams).values())
    return total / len(draws)


@pytest.mark.parametrize("name", PLANS)
def test_overfitting_one_clip_lowers_its_loss_and_moves_every_adapter(name):
    module = training(PLANS[name], Schedule(steps=25, learning_rate=3e-2))
    before = losses_at(module.base[0], module.samples[0])
    fit(module)
    assert losses_at(module.base[0], module.samples[0]) < 0.92 * before
    moved = {key: weight.ne(0).any().item() for key, weight in export(module.base[0]).items()}
    assert moved and all(moved.values())


class Save(lightning.Callback):
    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_gives_the_same_bytes(tmp_path):
    plan, schedule = PLANS["both prefixes"], Schedule(steps=7, learning_rate=1e-2)
    whole = training(plan, schedule, samples=3)
    fit(whole, Save(tmp_path / "3.ckpt", step=3))
    torch.manual_seed(12345)  # another process
    resumed = training(plan, schedule, samples=3)
    trainer = fit(resumed, resume=tmp_path / "3.ckpt")
    assert trainer.global_step == 7
    wanted = export(whole.base[0])
    assert all(weight.equal(wanted[key]) for key, weight in export(resumed.base[0]).items())


def test_a_checkpoint_holds_the_adapter_and_nothing_of_the_base(tmp_path):
    module = training(PLANS["audio prefix"], Schedule(steps=2, learning_rate=1e-2))
    fit(module, Save(tmp_path / "2.ckpt", step=2))
    state = torch.load(tmp_path / "2.ckpt", weights_only=False)["state_dict"]
    assert len(state) == len(module.adapter)
    assert sum(weight.numel() for weight in state.values()) == sum(w.numel() for w in module.adapter)


def test_losses_are_logged_per_modality_and_the_rate_falls_to_a_tenth():
    module = training(PLANS["both prefixes"], Schedule(steps=5, learning_rate=1e-2))
    trainer = fit(module)
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    assert logged["loss"] == pytest.approx(logged["loss_video"] + logged["loss_audio"])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


def test_every_epoch_uses_every_sample_in_an_order_of_its_own():
    epochs = [[sample_index(draw, 5, seed=0) for draw in range(5 * epoch, 5 * epoch + 5)] for epoch in range(3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_modalities_are_noised_independently():
    streams = training_streams(random_sample(PLANS["both references"]), step_generator(0, 0))
    assert streams["video"].input.sigma != streams["audio"].input.sigma
    assert streams["video"].input.tokens.latent.shape[1] == 3 * 1 * 1 + 5 * 2 * 2
    assert streams["video"].velocity.shape == (1, 20, 128)


def test_checkpointing_trains_to_the_same_bytes():
    schedule = Schedule(steps=3, learning_rate=1e-2)
    plain, saving = (training(PLANS["masked"], schedule, checkpointing=each) for each in (False, True))
    fit(plain)
    fit(saving)
    wanted = export(plain.base[0])
    assert all(weight.equal(wanted[key]) for key, weight in export(saving.base[0]).items())


def test_ticks_go_on_where_a_checkpoint_was_taken():
    first, second = Ticks(4), Ticks(4)
    ticks = iter(first)
    assert [next(ticks), next(ticks)] == [0, 1]
    second.load_state_dict(first.state_dict())
    assert list(second) == [2, 3]

"""One training step of an adapter, and the LightningModule around it.

Lightning sees the adapter alone: the frozen base is neither moved, nor wrapped, nor checkpointed by it, and weights of
an absent stream may stay on the meta device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from models.adapter import adapter_parameters
from models.conditions import Source, condition, grid_of, source_of, start, tokens_of
from models.noising import masked_loss, noised, shifted_logit_normal, step_generator
from models.transformer import StreamInput, velocities
from schemas.media import Modality, Role
from schemas.plan import Generated, Plan

CLIP_NORM = 1.0
LAST_RATE = 0.1  # of the learning rate, reached on the last step
LONGEST_WAIT = timedelta(hours=2)  # of the other devices, while the first one generates previews


@dataclass(frozen=True)
class TrainingSample:
    """One encoded sample. Sound is already cut to the bucket's steps: encoded clips are often one longer."""

    name: str
    plan: Plan
    fps: float
    latents: dict[tuple[Role, Modality], Tensor]  # video [128, F, h, w]; audio [T, 128]; mask bool [F, h, w]
    context: dict[Modality, Tensor]  # [S, D]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast an adapter is trained.

    `batch` is what one device learns from in one step. N devices at batch 1 do what one device does at batch N: as many
    steps, N samples in each, the mean of their gradients (equal up to the order in which the gradients are added).
    """

    steps: int
    learning_rate: float
    seed: int = 42
    batch: int = 1


@dataclass(frozen=True)
class TrainingStream:
    """One modality of a training step: what the model reads, and what it should say of the target."""

    input: StreamInput
    velocity: Tensor  # [B, L, C]  noise - clean of the target's L tokens

    @property
    def length(self) -> int:
        """All tokens that the transformer reads, the reference's included."""
        return self.input.tokens.latent.shape[1]


Streams = dict[Modality, TrainingStream]  # one sample, ready to be learned from


def training_stream(
    modality: Modality, stream: Generated, source: Source, context: Tensor, *, noise: Tensor, sigma: Tensor
) -> TrainingStream:
    """One modality noised and conditioned, with its noise and sigma given.

    Args:
        modality, stream: of the plan.
        source: the clean target, [B, L, C], and what its conditions take clean tokens from.
        context: [B, S, D] text after the connectors.
        noise: [B, L, C]
        sigma: [B]

    Raises:
        ConditionError: a condition does not fit the clip.

    Source: golden/README.md, `train_*`.
    """
    mixed = noised(source.clean, noise, sigma)
    tokens = condition(start(mixed, sigma, modality, source.grid, source.fps), stream, source)
    return TrainingStream(StreamInput(tokens, context, sigma), noise - source.clean)


def training_streams(sample: TrainingSample, generator: torch.Generator) -> Streams:
    """All modalities of one sample (B = 1), each with its own sigma and noise from the generator.

    Sigma depends on the target's length before a reference is added (facts/ltx23.md, E).
    """
    streams: Streams = {}
    for modality, stream in sample.plan.streams.items():
        latent = sample.latents["target", modality][None].float()
        clean = tokens_of(latent)
        normal = torch.randn(1, generator=generator)
        uniform, prob = torch.rand(1, generator=generator), torch.rand(1, generator=generator)
        sigma = shifted_logit_normal(clean.shape[1], normal, uniform, prob).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        source = source_of(sample.latents, modality, sample.fps, clean, grid_of(latent))
        text = sample.context[modality][None]
        streams[modality] = training_stream(modality, stream, source, text, noise=noise, sigma=sigma)
    return streams


def training_loss(
    predictions: Mapping[Modality, Tensor], streams: Mapping[Modality, TrainingStream]
) -> dict[Modality, Tensor]:
    """Loss per modality and sample, [B]; a reference stands in front of the target and carries none."""
    losses: dict[Modality, Tensor] = {}
    for modality, stream in streams.items():
        length = stream.velocity.shape[1]
        learn = stream.input.tokens.learn[:, -length:]
        losses[modality] = masked_loss(predictions[modality][:, -length:], stream.velocity, learn)
    return losses


def sample_index(draw: int, samples: int, seed: int) -> int:
    """Which sample the `draw`-th step trains on: every epoch goes through all of them in an order of its own."""
    epoch, place = divmod(draw, samples)
    order = torch.randperm(samples, generator=step_generator(seed, -1 - epoch))
    return int(order[place])


class LoraTraining(LightningModule):  # type: ignore[misc]  # Lightning is not typed here
    """Trains the adapter that `add_adapter` attached, on what a `models.feed.Feed` brings.

    What a step measured stays on the device: whoever wants to read it waits for the device, and may do so seldom.
    """

    def __init__(self, transformer: nn.Module, schedule: Schedule, *, recomputed: int = 0) -> None:
        super().__init__()
        self.base = (transformer,)  # in a tuple: not a submodule
        self.schedule, self.recomputed = schedule, recomputed
        self.adapter = nn.ParameterList(adapter_parameters(transformer))
        self.measured: Measured | None = None  # of the last step

    def losses(self, streams: Streams) -> Tensor:
        """The loss of each modality, [number of modalities], in the plan's order."""
        inputs = {modality: stream.input for modality, stream in streams.items()}
        losses = training_loss(velocities(self.base[0], inputs, recomputed=self.recomputed), streams)
        return torch.stack([each.mean() for each in losses.values()])

    def training_step(self, batch: tuple[Streams, ...], batch_idx: int) -> Tensor:
        """Learn from every sample of a batch, each on its own."""
        losses = torch.stack([self.losses(streams) for streams in batch]).mean(0)
        tokens = sum(stream.length for streams in batch for stream in streams.values())
        self.measured = Measured(tokens * self.trainer.world_size, self._over_devices(losses.detach()))
        return losses.sum()

    def _over_devices(self, losses: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(losses)
            losses = losses / self.trainer.world_size
        return losses

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None, gradient_clip_algorithm: str | None
    ) -> None:
        """Clip to the norm of 1, and keep what the norm was before."""
        norm = nn.utils.clip_grad_norm_(self.adapter.parameters(), CLIP_NORM)
        assert self.measured is not None
        self.measured = replace(self.measured, gradient_norm=norm.detach())

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW as torch has it, its rate falling linearly to a tenth over all steps; fused: one kernel, not ten."""
        optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.schedule.learning_rate, fused=True)
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, total_iters=self.schedule.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}

    def transfer_batch_to_device(self, batch: tuple[Streams, ...], device: torch.device, dataloader_idx: int) -> Any:
        """The feed has put it there already; Lightning would copy every dataclass."""
        return batch


@dataclass(frozen=True)
class Measured:
    """What one optimisation step was, over all devices; its tensors are still being computed."""

    tokens: int
    losses: Tensor  # [number of modalities]
    gradient_norm: Tensor | None = None  # before clipping


def trainer_options(schedule: Schedule, device: torch.device, devices: int = 1) -> dict[str, Any]:
    """Arguments of a quiet `lightning.Trainer`: no bar, no summary, no files but the checkpoints that callers save.

    Deterministic, so that a resumed run gives the same bytes on a GPU, too.
    """
    one = [device.index or 0] if device.type == "cuda" else 1
    return {
        "max_steps": schedule.steps,
        "max_epochs": -1,
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": one if devices == 1 else devices,
        "strategy": "auto" if devices == 1 else DDPStrategy(timeout=LONGEST_WAIT),
        "deterministic": True,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # the feed shares samples out
    }

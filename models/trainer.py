"""One training step of an adapter, and the LightningModule around it.

Lightning sees the adapter alone: the frozen base is neither moved, nor wrapped, nor checkpointed by it, and weights of
an absent stream may stay on the meta device.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from models.adapter import adapter_parameters
from models.conditions import Source, condition, grid_of, source_of, start, tokens_of
from models.noising import masked_loss, noised, shifted_logit_normal, step_generator
from models.transformer import StreamInput, velocities
from schemas.media import Modality, Role
from schemas.plan import Generated, Plan

CLIP_NORM = 1.0
LAST_RATE = 0.1  # of the learning rate, reached on the last step


@dataclass(frozen=True)
class TrainingSample:
    """One encoded sample. Sound is already cut to the bucket's steps: encoded clips are often one longer."""

    name: str
    plan: Plan
    fps: float
    latents: dict[tuple[Role, Modality], Tensor]  # video [128, F, h, w]; audio [T, 128]; mask bool [F, h, w]
    context: dict[Modality, Tensor]  # [S, D]

    def to(self, device: torch.device) -> "TrainingSample":
        """The same sample with its tensors on another device."""
        latents = {key: latent.to(device) for key, latent in self.latents.items()}
        return replace(self, latents=latents, context={key: text.to(device) for key, text in self.context.items()})


@dataclass(frozen=True)
class Schedule:
    """How long and how fast an adapter is trained."""

    steps: int
    learning_rate: float
    seed: int = 42


@dataclass(frozen=True)
class TrainingStream:
    """One modality of a training step: what the model reads, and what it should say of the target."""

    input: StreamInput
    velocity: Tensor  # [B, L, C]  noise - clean of the target's L tokens


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


def training_streams(sample: TrainingSample, generator: torch.Generator) -> dict[Modality, TrainingStream]:
    """All modalities of one sample (B = 1), each with its own sigma and noise from the generator.

    Sigma depends on the target's length before a reference is added (facts/ltx23.md, E).
    """
    streams: dict[Modality, TrainingStream] = {}
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
    """Trains the adapter that `add_adapter` attached.

    Every step's sample, sigma and noise come from (seed, step) alone, so a resumed run gives the same bytes. Several
    devices draw different samples.
    """

    def __init__(
        self, transformer: nn.Module, samples: Sequence[TrainingSample], schedule: Schedule, *, checkpointing: bool
    ) -> None:
        super().__init__()
        self.base = (transformer,)  # in a tuple: not a submodule
        self.samples, self.schedule, self.checkpointing = samples, schedule, checkpointing
        self.adapter = nn.ParameterList(adapter_parameters(transformer))

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """One sample at batch size 1; logs `loss` and `loss_<modality>`."""
        draw = self.global_step * self.trainer.world_size + self.global_rank
        sample = self.samples[sample_index(draw, len(self.samples), self.schedule.seed)]
        streams = training_streams(sample.to(self.device), step_generator(self.schedule.seed, draw))
        inputs = {modality: stream.input for modality, stream in streams.items()}
        losses = training_loss(velocities(self.base[0], inputs, checkpointing=self.checkpointing), streams)
        loss = torch.stack(list(losses.values())).sum(0).mean()
        self.log_dict({f"loss_{m}": each.mean().detach() for m, each in losses.items()}, batch_size=1)
        self.log("loss", loss.detach(), batch_size=1)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW as torch has it, its rate falling linearly to a tenth over all steps."""
        optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.schedule.learning_rate)
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, total_iters=self.schedule.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}

    def train_dataloader(self) -> "Ticks":
        """One tick per step: the sample is chosen from the step's number."""
        return Ticks(self.schedule.steps)


class Ticks:
    """Counts steps, and goes on from where a checkpoint was taken."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[int]:
        while self.done < self.steps:
            self.done += 1
            yield self.done - 1

    def state_dict(self) -> dict[str, int]:
        """Kept in Lightning's checkpoint."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Called by Lightning before the first tick of a resumed run."""
        self.done = state["done"]


def trainer_options(schedule: Schedule, device: torch.device) -> dict[str, Any]:
    """Arguments of a quiet `lightning.Trainer`: no bar, no summary, no files but the checkpoints that callers save.

    Deterministic, so that a resumed run gives the same bytes on a GPU, too.
    """
    return {
        "max_steps": schedule.steps,
        "max_epochs": -1,
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": [device.index or 0] if device.type == "cuda" else 1,
        "gradient_clip_val": CLIP_NORM,
        "deterministic": True,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }

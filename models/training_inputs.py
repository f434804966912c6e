"""Inputs of a training step and the velocity to learn: a sample is conditioned once, and noised anew in every step.

Conditions decide which tokens are given and the positions of all tokens; neither changes from step to step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.conditions import Source, condition, source_of, start
from models.ltx2.transformer import StreamInput
from models.noise import masked_loss, noised, shifted_logit_normal
from models.tokens import Tokens, grid_of, tokens_of
from schemas.media import Modality, Role
from schemas.plan import Generated, Plan


@dataclass(frozen=True)
class TrainingSample:
    """One encoded sample. Sound is already cut to its clip's steps: encoded clips are often one longer."""

    name: str
    plan: Plan
    fps: float
    latents: dict[tuple[Role, Modality], Tensor]  # video [128, F, h, w]; audio [T, 128]; mask bool [F, h, w]
    context: dict[Modality, Tensor]  # [S, D]
    reference_fps: float | None = None  # of the reference's latent; None: in step with the target


@dataclass(frozen=True)
class Conditioned:
    """One modality of a sample under its plan's conditions, without noise."""

    tokens: Tokens  # clean; sigma 1 where generated, 0 where given; a reference stands in front
    context: Tensor  # [B, S, D] text after the connectors
    target: int  # L, how many of the tokens are the target's: the last ones


@dataclass(frozen=True)
class TrainingStream:
    """One modality of a training step: the transformer's input, and the velocity it should predict for the target."""

    input: StreamInput
    velocity: Tensor  # [B, L, C]  noise - clean of the target's L tokens

    @property
    def length(self) -> int:
        """All tokens that the transformer reads, the reference's included."""
        return self.input.tokens.latent.shape[1]


Streams = dict[Modality, TrainingStream]  # one sample, ready to be learned from


def conditioned(sample: TrainingSample) -> dict[Modality, Conditioned]:
    """All modalities of one sample, B = 1.

    Raises:
        ConditionError: a condition does not fit the clip.
    """
    streams: dict[Modality, Conditioned] = {}
    for modality, stream in sample.plan.streams.items():
        latent = sample.latents["target", modality][None].float()
        source = source_of(sample.latents, modality, sample.fps, tokens_of(latent), grid_of(latent))
        source = replace(source, reference_fps=sample.reference_fps)
        streams[modality] = conditioned_stream(modality, stream, source, sample.context[modality][None])
    return streams


def conditioned_stream(modality: Modality, stream: Generated, source: Source, context: Tensor) -> Conditioned:
    """One modality under the conditions of its plan, with context [B, S, D]."""
    batch, length, _ = source.clean.shape
    everywhere = torch.ones(batch, device=source.clean.device)
    tokens = start(source.clean.contiguous(), everywhere, modality, source.grid, source.fps)
    return Conditioned(condition(tokens, stream, source), context, length)


def training_streams(sample: Mapping[Modality, Conditioned], generator: torch.Generator) -> Streams:
    """All modalities of one sample (B = 1), each with its own sigma and noise from the generator.

    Sigma depends on the target's length before a reference is added (docs/ltx2.md, E).
    """
    streams: Streams = {}
    for modality, stream in sample.items():
        normal = torch.randn(1, generator=generator)
        uniform, prob = torch.rand(2, 1, generator=generator).unbind()
        sigma = shifted_logit_normal(stream.target, normal, uniform, prob)
        noise = torch.randn(1, stream.target, stream.tokens.latent.shape[2], generator=generator)
        streams[modality] = training_stream(stream, noise=noise, sigma=sigma)
    return streams


def training_stream(stream: Conditioned, *, noise: Tensor, sigma: Tensor) -> TrainingStream:
    """One modality with its noise [B, L, C] and its sigma [B].

    Source: docs/ltx2.md, notes 1 to 5; tests/golden/train_*.safetensors.
    """
    level = stream.tokens.sigma * sigma[:, None]
    given = stream.tokens.latent
    reference, clean = given[:, : -stream.target], given[:, -stream.target :]
    noisy = noised(clean, noise, level[:, -stream.target :])
    latent = torch.cat([reference, noisy], dim=1) if reference.shape[1] else noisy
    tokens = replace(stream.tokens, latent=latent, sigma=level)
    return TrainingStream(StreamInput(tokens, stream.context, sigma), noise - clean)


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

"""Noise levels, noised latents, the loss, and the random generators of a training."""

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor

Purpose = Literal["adapter", "order", "noise"]

SMALLEST_SIGMA = 1e-3
UNIFORM_SHARE = 0.1  # of draws that are uniform, so that no noise level is forgotten


def shifted_logit_normal(tokens: int, normal: Tensor, uniform: Tensor, prob: Tensor) -> Tensor:
    """Noise levels of a training step, shifted towards noise for long sequences.

    Args:
        tokens: length of the target before references are added; not clamped to the 1024..4096 of the schedule.
        normal, uniform, prob: independent draws of one shape, from N(0, 1), U[0, 1) and U[0, 1).

    Returns:
        sigma in [0, 1], of the same shape: the logit-normal stretched so that its 0.5 % and 99.9 % points are 0 and
        1, what is below 1e-3 reflected; one draw in ten uniform instead.

    Source: arXiv 2403.03206 (logit-normal, resolution shift); tests/golden/rules.safetensors, `timesteps.*`.
    """
    mu = 0.95 + (tokens - 1024) * (2.05 - 0.95) / (4096 - 1024)
    low, high = _sigmoid(mu - 2.5758), _sigmoid(mu + 3.0902)
    stretched = (torch.sigmoid(normal + mu) - low) / (high - low)
    reflected = ((stretched - SMALLEST_SIGMA).abs() + SMALLEST_SIGMA).clamp(max=1)
    return torch.where(prob > UNIFORM_SHARE, reflected, (1 - SMALLEST_SIGMA) * uniform + SMALLEST_SIGMA)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def noised(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Clean and noise [B, L, C] mixed at every token's own level [B, L]: (1 - level) * clean + level * noise."""
    return torch.lerp(clean, noise, level[..., None])


def masked_loss(prediction: Tensor, velocity: Tensor, learn: Tensor) -> Tensor:
    """Squared error over the tokens that are learned.

    Args:
        prediction, velocity: [B, L, C] of the target's tokens.
        learn: [B, L] bool.

    Returns:
        [B]: per sample the mean over learned tokens and channels, 0 where none is learned.

    Source: docs/ltx2.md, note 5.
    """
    weight = learn[..., None].to(velocity.dtype)
    error = (prediction - velocity).square() * weight
    return error.mean((1, 2)) / weight.mean((1, 2)).clamp(min=1e-8)


def generator_of(purpose: Purpose, seed: int, number: int) -> torch.Generator:
    """A generator on the CPU that depends on nothing drawn before, so that a resumed run draws the same numbers.

    Args:
        purpose: each has numbers of its own: the noise of step 0 is not the adapter's first weight in other units.
        seed: of the training.
        number: which weight, epoch or step the randomness is for.
    """
    digest = hashlib.sha256(f"{purpose}/{seed}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # the generator reads 32 bits

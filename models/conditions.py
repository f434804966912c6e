"""Conditions: functions that give some tokens of a target clean, or put clean reference tokens in front.

A condition is `Tokens -> Tokens` and changes nothing in place. Training and sampling go through the same `condition`:
training hands in clean tokens mixed with noise, sampling hands in noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import torch
from torch import Tensor

from models.ltx2.geometry import audio_positions, reference_positions, video_positions
from models.tokens import Grid, Tokens, grid_of, tokens_of
from schemas.errors import ConditionError
from schemas.media import Modality, Role
from schemas.plan import Generated, Mask, Prefix, Reference


@dataclass(frozen=True)
class Source:
    """Clean tensors that the conditions of one stream read: the target's tokens, the reference, the mask's cells."""

    grid: Grid  # of the target
    fps: float  # of the target; means nothing for sound
    clean: Tensor  # [B, L, C]  the target's tokens without noise; only the given ones are read
    reference: Tensor | None = None  # [B, C, F, h, w] or [B, T, C]
    reference_fps: float | None = None  # of its own frames; None: those of the target, slowed down as the plan says
    learn_cells: Tensor | None = None  # [B, L]  bool, True = regenerate


def source_of(
    given: Mapping[tuple[Role, Modality], Tensor], modality: Modality, fps: float, clean: Tensor, grid: Grid
) -> Source:
    """One sample's tensors by role, each without a batch axis -> the source of its conditions, with B = 1."""
    reference, cells = given.get(("reference", modality)), given.get(("mask", modality))
    return Source(
        grid=grid,
        fps=fps,
        clean=clean,
        reference=None if reference is None else reference[None].to(clean),
        learn_cells=None if cells is None else cells[None].flatten(1).to(clean.device),
    )


def start(latent: Tensor, sigma: Tensor, modality: Modality, grid: Grid, fps: float) -> Tokens:
    """Tokens of a target under no condition: all of them at `sigma` ([B]), all of them learned."""
    batch, length, _ = latent.shape
    position = video_positions(*grid, fps) if modality == "video" else audio_positions(grid[0])
    return Tokens(
        latent=latent,
        sigma=sigma[:, None].expand(batch, length),
        position=position.to(latent.device).expand(batch, -1, -1, -1),
        learn=torch.ones(batch, length, dtype=torch.bool, device=latent.device),
    )


def condition(tokens: Tokens, stream: Generated, source: Source) -> Tokens:
    """The tokens under all conditions of a stream, in the order in which the plan names them.

    Args:
        tokens: from `start`, L tokens.
        stream: one modality of a plan.
        source: where clean tokens come from.

    Returns:
        [reference, target] where the stream has a reference, else the same length.

    Raises:
        ConditionError: a mask or a reference is asked for and missing, or does not fit the target.

    Source: docs/ltx2.md, notes 1 to 4.
    """
    _, height, width = source.grid
    for wanted in stream.conditions:
        match wanted:
            case Prefix():
                tokens = keep_prefix(tokens, source.clean, wanted.steps, height * width)
            case Mask():
                if source.learn_cells is None:
                    raise ConditionError("a plan with a mask needs the sample's mask")
                tokens = keep_unmasked(tokens, source.clean, source.learn_cells)
            case Reference():
                if source.reference is None:
                    raise ConditionError("a plan with a reference needs the sample's reference")
                position = _positions_of_reference(source, source.reference, wanted)
                tokens = prepend_reference(tokens, tokens_of(source.reference), position)
            case _:
                assert_never(wanted)
    return tokens


def keep_prefix(tokens: Tokens, clean: Tensor, steps: int, tokens_per_step: int) -> Tokens:
    """Give the opening of every clip clean, so that only what follows is learned.

    Args:
        tokens: the noised clip, time-major: all tokens of step 0, then of step 1, ...
        clean: [B, L, C] the same tokens without noise.
        steps: latent steps given. Video: step 0 is 1 frame, each later one 8. Audio: 1/25 s each.
        tokens_per_step: latent height x width for video, 1 for audio.

    Returns:
        Tokens of the same length; the first steps * tokens_per_step are clean, at sigma 0, without loss.

    Raises:
        ConditionError: nothing would be left to generate.

    Source: prefix condition of the LTX-2 training guide; causal video VAE, 8x in time.
    """
    given = steps * tokens_per_step
    if given >= clean.shape[1]:
        raise ConditionError(f"a prefix of {steps} latent steps leaves nothing to generate")
    opening = torch.arange(clean.shape[1], device=clean.device) < given
    return _give(tokens, clean, opening.expand(clean.shape[:2]))


def keep_unmasked(tokens: Tokens, clean: Tensor, learn_cells: Tensor) -> Tokens:
    """Give every cell outside the white region clean; a mask without white leaves nothing to learn, and loss 0.

    Args:
        tokens: the noised clip.
        clean: [B, L, C] the same tokens without noise.
        learn_cells: [B, L] bool, True = regenerate (users' white).

    Returns:
        Tokens of the same length; cells outside are clean, at sigma 0, without loss.

    Raises:
        ConditionError: the cells are not those of the clip.

    Source: mask condition of the LTX-2 training guide, with our polarity (docs/media-rules.md, reading 16).
    """
    if learn_cells.shape != clean.shape[:2]:
        raise ConditionError(f"a mask of {tuple(learn_cells.shape)} cells does not fit {tuple(clean.shape[:2])} tokens")
    return _give(tokens, clean, ~learn_cells)


def prepend_reference(tokens: Tokens, reference: Tensor, position: Tensor) -> Tokens:
    """Put clean tokens of another clip in front of the target's (in-context LoRA).

    Args:
        tokens: the target under its other conditions, L tokens.
        reference: [B, R, C] clean tokens.
        position: [B, D, R, 2] or [1, D, R, 2], where the reference lies in the target's seconds and pixels.

    Returns:
        R + L tokens: the reference at sigma 0 without loss, then the target unchanged.

    Raises:
        ConditionError: reference and positions differ in length.

    Source: arXiv 2410.23775 (in-context LoRA); order of docs/ltx2.md, note 1.
    """
    batch, length, _ = reference.shape
    if position.shape[2] != length:
        raise ConditionError(f"{length} reference tokens at {position.shape[2]} positions")
    nothing = tokens.sigma.new_zeros(batch, length)
    return Tokens(
        latent=torch.cat([reference.to(tokens.latent), tokens.latent], dim=1),
        sigma=torch.cat([nothing, tokens.sigma], dim=1),
        position=torch.cat([position.to(tokens.position).expand(batch, -1, -1, -1), tokens.position], dim=2),
        learn=torch.cat([nothing.bool(), tokens.learn], dim=1),
    )


def _give(tokens: Tokens, clean: Tensor, given: Tensor) -> Tokens:
    return replace(
        tokens,
        latent=torch.where(given[..., None], clean, tokens.latent),
        sigma=tokens.sigma.masked_fill(given, 0.0),
        learn=tokens.learn & ~given,
    )


def _positions_of_reference(source: Source, reference: Tensor, wanted: Reference) -> Tensor:
    """Positions of a reference, from 0 s on by its own clock; a picture is scaled into the target's pixels."""
    steps, height, width = grid_of(reference)
    if reference.ndim == 3:
        return audio_positions(steps)
    fps = source.fps if source.reference_fps is None else source.reference_fps * wanted.temporal_scale
    return reference_positions(
        steps, height, width, fps, downscale=wanted.downscale, temporal_scale=wanted.temporal_scale
    )

"""Tokens, and the conditions that turn some of them clean or put clean ones in front.

A condition is `Tokens -> Tokens` and changes nothing in place. Training and sampling go through the same `condition`:
training hands in clean tokens mixed with noise, sampling hands in noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import assert_never

import torch
from torch import Tensor

from schemas.errors import ConditionError
from schemas.media import AUDIO_STEPS_PER_SECOND, FRAMES_PER_STEP, LATENT_CELL, Modality, Role, video_frames
from schemas.plan import Generated, Mask, Prefix, Reference

POSITIONS_KEPT = 32  # of the grids asked for last: every step of a training asks for the same few

Grid = tuple[int, int, int]  # latent steps, rows, columns; sound has one row and one column


@dataclass(frozen=True)
class Tokens:
    """B clips, L tokens, C = 128 channels."""

    latent: Tensor  # [B, L, C]     noisy where generated, clean where given
    sigma: Tensor  # [B, L]        noise level, 0 where given
    position: Tensor  # [B, D, L, 2]  from/to per axis: D = 3 video (s, px, px), 1 audio (s)
    learn: Tensor  # [B, L]        bool, True where the token carries loss


@dataclass(frozen=True)
class Source:
    """What the conditions of one stream take clean tokens from."""

    grid: Grid  # of the target
    fps: float  # of the target; means nothing for sound
    clean: Tensor  # [B, L, C]  the target's tokens without noise; only the given ones are read
    reference: Tensor | None = None  # [B, C, F, h, w] or [B, T, C]
    reference_fps: float | None = None  # of its own frames; None: those of the target, slowed down as the plan says
    learn_cells: Tensor | None = None  # [B, L]  bool, True = regenerate


def source_of(
    given: Mapping[tuple[Role, Modality], Tensor], modality: Modality, fps: float, clean: Tensor, grid: Grid
) -> Source:
    """One sample's tensors by role, each without a batch axis -> what its conditions take from, with B = 1."""
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

    Source: golden/README.md, matching notes 1 to 4.
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

    Source: mask condition of the LTX-2 training guide, with our polarity (style.md, section 8).
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

    Source: arXiv 2410.23775 (in-context LoRA); order of golden/README.md, note 1.
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


def tokens_of(latent: Tensor) -> Tensor:
    """Video [B, C, F, h, w] -> [B, F h w, C], time-major; sound [B, T, C] is in tokens already."""
    return latent.flatten(2).transpose(1, 2) if latent.ndim == 5 else latent


def latent_of(tokens: Tensor, modality: Modality, grid: Grid) -> Tensor:
    """The way back: [B, F h w, C] -> [B, C, F, h, w]; sound stays [B, T, C]."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid) if modality == "video" else tokens


def grid_of(latent: Tensor) -> Grid:
    """Steps, rows and columns of a batch of latents, [B, C, F, h, w] or [B, T, C]."""
    if latent.ndim == 5:
        _, _, steps, height, width = latent.shape
        return steps, height, width
    return latent.shape[1], 1, 1


@lru_cache(maxsize=POSITIONS_KEPT)
def video_positions(steps: int, height: int, width: int, fps: float) -> Tensor:
    """From/to of every video token: seconds, pixel rows, pixel columns.

    Returns:
        float32 [1, 3, steps * height * width, 2], time-major. Step 0 is one frame long, each later one eight.

    Source: equal to diffusers' `rope.prepare_video_coords`.
    """
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (steps, height, width)), indexing="ij")
    cells = torch.stack(axes).flatten(1)  # [3, L]
    bounds = torch.stack([cells, cells + 1], dim=-1)[None]
    frames = (bounds[:, :1] * FRAMES_PER_STEP + 1 - FRAMES_PER_STEP).clamp(min=0)
    return torch.cat([frames / fps, bounds[:, 1:] * LATENT_CELL], dim=1)


@lru_cache(maxsize=POSITIONS_KEPT)
def audio_positions(steps: int) -> Tensor:
    """From/to of every audio token in seconds: float32 [1, 1, steps, 2].

    A step is four mel frames of 1/100 s, the first one a single frame (causal audio VAE).
    Source: equal to diffusers' `audio_rope.prepare_audio_coords`.
    """
    index = torch.arange(steps, dtype=torch.float32)
    mel = (torch.stack([index, index + 1], dim=-1) * 4 + 1 - 4).clamp(min=0)
    return (mel * 160 / (160 * 4 * AUDIO_STEPS_PER_SECOND))[None, None]


@lru_cache(maxsize=POSITIONS_KEPT)
def reference_positions(
    steps: int, height: int, width: int, fps: float, *, downscale: int, temporal_scale: int
) -> Tensor:
    """Positions of reference tokens in the target's seconds and pixels.

    Args:
        steps, height, width: the reference's own latent grid.
        fps: of the reference's clip, of which it holds frame 0 and then every `temporal_scale`-th from frame 1: the
            target's, or one of its own, where clips are not retimed.
        downscale: pixels of the target per pixel of the reference, along each side.
        temporal_scale: frames of the target per frame of the reference.

    Returns:
        float32 [1, 3, steps * height * width, 2].

    Source: golden/README.md, note 4.
    """
    position = video_positions(steps, height, width, fps / temporal_scale)
    seconds = (position[:, :1] - (temporal_scale - 1) / fps).clamp(min=0)
    return torch.cat([seconds, position[:, 1:] * downscale], dim=1)


def _positions_of_reference(source: Source, reference: Tensor, wanted: Reference) -> Tensor:
    """Each reference starts at 0 s and keeps its own clock; a picture is scaled into the target's pixels."""
    steps, height, width = grid_of(reference)
    if reference.ndim == 3:
        return audio_positions(steps)
    fps = source.fps if source.reference_fps is None else source.reference_fps * wanted.temporal_scale
    return reference_positions(
        steps, height, width, fps, downscale=wanted.downscale, temporal_scale=wanted.temporal_scale
    )


def white_pixels(frames: Tensor) -> Tensor:
    """A decoded mask, uint8 [F, H, W, 3] in grey -> bool [F, H, W], True where its luma is above a half."""
    return frames[..., 0] > 127


def regenerated_cells(white: Tensor) -> Tensor:
    """A mask's pixels -> the latent cells that are made anew: any white pixel in any frame of a cell is enough.

    Args:
        white: [F, H, W] bool, True = white; F = 8k + 1, H and W multiples of 32.

    Returns:
        bool [k + 1, H / 32, W / 32]; frames are grouped as the video VAE does: 0, 1-8, 9-16, ...

    Raises:
        ConditionError: the mask has another shape.

    Source: design.md, section 6 (the official groups 0-7, 8-15, ... are off by up to seven frames).
    """
    frames, height, width = white.shape
    steps = (frames - 1) // FRAMES_PER_STEP + 1
    if frames != video_frames(steps) or height % LATENT_CELL or width % LATENT_CELL:
        raise ConditionError(f"a mask of {frames} frames at {width}x{height} does not fit the latent grid")
    rows, columns = height // LATENT_CELL, width // LATENT_CELL
    cells = white.reshape(frames, rows, LATENT_CELL, columns, LATENT_CELL).any(4).any(2)
    later = cells[1:].reshape(steps - 1, FRAMES_PER_STEP, rows, columns).any(1)
    return torch.cat([cells[:1], later])

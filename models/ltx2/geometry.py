"""Geometry of latent cells: their positions in seconds and pixels, and which cells a mask covers."""

from functools import lru_cache

import torch
from torch import Tensor

from models.ltx2.spec import FRAMES_PER_AUDIO_STEP, HOP, SAMPLE_RATE
from schemas.errors import ConditionError
from schemas.units import FRAMES_PER_STEP, LATENT_CELL, WHITE_ABOVE, video_frames

POSITIONS_KEPT = 32  # of the grids asked for last: every step of a training asks for the same few


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
    mel = (torch.stack([index, index + 1], dim=-1) * FRAMES_PER_AUDIO_STEP + 1 - FRAMES_PER_AUDIO_STEP).clamp(min=0)
    return (mel * HOP / SAMPLE_RATE)[None, None]


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

    Source: docs/ltx2.md, note 4.
    """
    position = video_positions(steps, height, width, fps / temporal_scale)
    seconds = (position[:, :1] - (temporal_scale - 1) / fps).clamp(min=0)
    return torch.cat([seconds, position[:, 1:] * downscale], dim=1)


def white_pixels(frames: Tensor) -> Tensor:
    """A decoded mask, uint8 [F, H, W, 3] in grey -> bool [F, H, W], True where its luma is above a half."""
    return frames[..., 0] > WHITE_ABOVE


def regenerated_cells(white: Tensor) -> Tensor:
    """A mask's pixels -> the latent cells that are made anew: any white pixel in any frame of a cell is enough.

    Args:
        white: [F, H, W] bool, True = white; F = 8k + 1, H and W multiples of 32.

    Returns:
        bool [k + 1, H / 32, W / 32]; frames are grouped as the video VAE does: 0, 1-8, 9-16, ...

    Raises:
        ConditionError: the mask has another shape.

    Source: docs/media-rules.md, reading 16 (the official groups 0-7, 8-15, ... are off by up to seven frames).
    """
    frames, height, width = white.shape
    steps = (frames - 1) // FRAMES_PER_STEP + 1
    if frames != video_frames(steps) or height % LATENT_CELL or width % LATENT_CELL:
        raise ConditionError(f"a mask of {frames} frames at {width}x{height} does not fit the latent grid")
    rows, columns = height // LATENT_CELL, width // LATENT_CELL
    cells = white.reshape(frames, rows, LATENT_CELL, columns, LATENT_CELL).any(4).any(2)
    later = cells[1:].reshape(steps - 1, FRAMES_PER_STEP, rows, columns).any(1)
    return torch.cat([cells[:1], later])

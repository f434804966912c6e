"""Pictures of the preview reel: caption bands, clips side by side, and given pixels put back exactly."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

Measure = Callable[[str], float]

CAPTION_LINES = 2
MARGIN = 6
BACKGROUND, INK = (16, 16, 16), (235, 235, 235)


def caption_band(width: int, text: str) -> Tensor:
    """A strip with a segment's step and prompt, wrapped to two lines and clipped with an ellipsis.

    Returns:
        uint8 [height, width, 3]; height is even and depends on the width alone, so that segments fit together.
    """
    size = max(10, width // 48)
    font = ImageFont.load_default(size=size)
    line_height = round(size * 1.35)
    height = 2 * MARGIN + CAPTION_LINES * line_height
    band = Image.new("RGB", (width, height + height % 2), BACKGROUND)
    draw = ImageDraw.Draw(band)
    for row, line in enumerate(_wrapped(text, width - 2 * MARGIN, lambda line: draw.textlength(line, font=font))):
        draw.text((MARGIN, MARGIN + row * line_height), line, fill=INK, font=font)
    return torch.from_numpy(np.array(band))


def _wrapped(text: str, width: int, length: Measure) -> list[str]:
    """Words in at most two lines; what does not fit ends in an ellipsis."""
    lines: list[str] = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:CAPTION_LINES]
    if len(lines) > CAPTION_LINES:
        shown[-1] += " …"
    return [_clipped(line, width, length) for line in shown]


def _clipped(line: str, width: int, length: Measure) -> str:
    while length(line) > width and len(line) > 1:
        line = line.rstrip("… ")[:-1] + "…"
    return line


def with_band(frames: Tensor, text: str) -> Tensor:
    """uint8 [F, H, W, 3] -> [F, H + band, W, 3], the caption below."""
    band = caption_band(frames.shape[2], text)
    return torch.cat([frames, band.expand(frames.shape[0], -1, -1, -1)], dim=1)


def keep_opening(generated: Tensor, source: Tensor) -> Tensor:
    """Replace the first frames by the given prefix, exactly: [F, H, W, 3] and [P, H, W, 3], P <= F."""
    return torch.cat([source, generated[source.shape[0] :]])


def keep_region(generated: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """Put the source's pixels back wherever the mask is black.

    Args:
        generated, source: uint8 [F, H, W, 3].
        mask: [F, H, W] bool or luma in 0..1, white = regenerated.
    """
    white = mask if mask.dtype == torch.bool else mask > 0.5
    return torch.where(white[..., None], generated, source)


def beside(*clips: Tensor) -> Tensor:
    """Clips from left to right at the greatest height and length among them.

    Args:
        clips: uint8 [F, H, W, 3] of any sizes; one with fewer frames shows each of them longer.

    Returns:
        uint8 [F, H, sum of widths, 3]
    """
    height = max(clip.shape[1] for clip in clips)
    frames = max(clip.shape[0] for clip in clips)
    return torch.cat([_scaled(_spread(clip, frames), height) for clip in clips], dim=2)


def _spread(clip: Tensor, frames: int) -> Tensor:
    return clip[torch.linspace(0, clip.shape[0] - 1, frames).round().long()]


def _scaled(clip: Tensor, height: int) -> Tensor:
    if clip.shape[1] == height:
        return clip
    width = 2 * round(clip.shape[2] * height / clip.shape[1] / 2)  # even, for the video encoder
    pixels = interpolate(clip.permute(0, 3, 1, 2).float(), size=(height, width), mode="bilinear")
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1)

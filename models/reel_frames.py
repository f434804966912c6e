"""Pictures of the preview reel: caption bands, clips side by side, and given pixels put back exactly."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

Measure = Callable[[str], float]

CAPTION_LINES = 2
MARGIN = 6
BACKGROUND, INK, FAINT = (16, 16, 16), (235, 235, 235), (150, 170, 190)


def caption_band(width: int, text: str, labels: tuple[str, ...] = ()) -> Tensor:
    """A strip with a segment's step and prompt, wrapped to two lines and clipped with an ellipsis.

    Args:
        width: of all clips together.
        text: the caption.
        labels: names of the clips above, from left to right, all of one width; they get a line of their own.

    Returns:
        uint8 [height, width, 3]; height is even and does not depend on the text, so that segments fit together.
    """
    size = max(10, width // 48)
    font = ImageFont.load_default(size=size)
    line_height = round(size * 1.35)
    height = 2 * MARGIN + (CAPTION_LINES + bool(labels)) * line_height
    band = Image.new("RGB", (width, height + height % 2), BACKGROUND)
    draw = ImageDraw.Draw(band)
    for place, label in enumerate(labels):
        draw.text((MARGIN + place * width // len(labels), MARGIN), label, fill=FAINT, font=font)
    lines = _wrapped(text, width - 2 * MARGIN, lambda line: draw.textlength(line, font=font))
    for row, line in enumerate(lines, start=bool(labels)):
        draw.text((MARGIN, MARGIN + row * line_height), line, fill=INK, font=font)
    return torch.from_numpy(np.array(band))


def _wrapped(text: str, width: int, length: Measure) -> list[str]:
    """Words wrapped into at most two lines; longer text ends in an ellipsis."""
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


def captioned(clips: Mapping[str, Tensor], text: str) -> Iterator[Tensor]:
    """Clips side by side over their caption, one frame at a time; several of them are labelled with their names.

    Args:
        clips: as `beside` takes them, by name.
        text: the caption.

    Returns:
        uint8 [H + band, sum of widths, 3] for each frame.
    """
    band: Tensor | None = None
    for frame in beside(*clips.values()):
        if band is None:
            band = caption_band(frame.shape[1], text, tuple(clips) if len(clips) > 1 else ())
        yield torch.cat([frame, band])


def keep_opening(generated: Tensor, source: Tensor) -> Tensor:
    """Replace the first frames by the given prefix, exactly: [F, H, W, 3] and [P, H, W, 3], P <= F."""
    return torch.cat([source, generated[source.shape[0] :]])


def keep_region(generated: Tensor, source: Tensor, white: Tensor) -> Tensor:
    """Put the source's pixels back wherever the mask is black.

    Args:
        generated, source: uint8 [F, H, W, 3].
        white: [F, H, W] bool, True = regenerated.
    """
    return torch.where(white[..., None], generated, source)


def beside(*clips: Tensor) -> Iterator[Tensor]:
    """Clips from left to right at the greatest height and length among them, one frame at a time.

    Args:
        clips: uint8 [F, H, W, 3] of any sizes. One with fewer frames holds frame 0 and then every n-th from frame 1 (a
            reference that was slowed down); each of those is shown n times.

    Returns:
        uint8 [H, sum of widths, 3] for each frame.
    """
    height = max(clip.shape[1] for clip in clips)
    frames = max(clip.shape[0] for clip in clips)
    for number in range(frames):
        yield torch.cat([_scaled(clip[_shown_at(number, frames, clip.shape[0])], height) for clip in clips], dim=1)


def _shown_at(number: int, frames: int, own: int) -> int:
    """Index of the clip's own frame that stands for the `number`-th frame of all."""
    return -(-number * (own - 1) // max(frames - 1, 1))


def _scaled(frame: Tensor, height: int) -> Tensor:
    if frame.shape[0] == height:
        return frame
    width = 2 * round(frame.shape[1] * height / frame.shape[0] / 2)  # even, for the video encoder
    pixels = interpolate(frame.permute(2, 0, 1)[None].float(), size=(height, width), mode="bilinear")
    return pixels[0].round().to(torch.uint8).permute(1, 2, 0)

"""ffmpeg's filter graph for a clip: which frames, when they are shown, and how they fill the bucket's picture.

The purpose of each filter and the reasons for its options: docs/media-rules.md, section 2.
"""

import math
from typing import NamedTuple

from tasks.media.probe import VideoProbe

CLOCK = 90_000  # ticks per second: finer than any frame rate, so that no time is rounded
EARLY = 180  # ticks; containers round times to 1 ms, and a frame that is due now must not come one frame late
LAST = 60 * CLOCK  # the longest bucket is 121 frames at 8 per second
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"  # ffmpeg's default flags cost 18 dB
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"
BT2020 = "setparams=color_primaries=bt2020:colorspace=bt2020nc"  # what HDR is in; zscale wants to be told
TONEMAP = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


class Pace(NamedTuple):
    """A frame rate to show a clip at, other than its own; time runs `slowdown` times slower."""

    fps: float
    slowdown: float = 1.0


def frames_at(seconds: float, fps: float) -> int:
    """Frames that a clip has at another rate: one for each moment k/fps at which it is still on the screen."""
    return max(1, math.ceil(seconds * fps - 0.01))


def clip_filters(video: VideoProbe, size: tuple[int, int], pace: Pace | None, length: int, keep_every: int) -> str:
    """Filters for a target or a reference.

    Args:
        video: what the file holds.
        size: width and height to fill; what is over is cropped on both sides alike.
        pace: the rate to show it at; None keeps its frames as they are.
        length: frames of it that may be used: a scene ends where the next one begins.
        keep_every: 1, or frame 0 and then of every so many frames the first (reading 18).
    """
    parts = [DEINTERLACE] if video.interlaced else []
    if pace:
        parts += [f"trim=end_frame={length}", f"settb=1/{CLOCK}", _shown(f"(PTS-STARTPTS)*{pace.slowdown:.9g}")]
        parts += _at_rate(pace.fps)
    if keep_every > 1:
        parts.append(f"select='not(n)+not(mod(n-1,{keep_every}))'")
    return ",".join(parts + _fill(video, size, EXACT))


def mask_filters(mask: VideoProbe, target: VideoProbe, size: tuple[int, int], pace: Pace | None) -> str:
    """Filters for a mask: the geometry and pace of its clip, frame for frame, as grey.

    A mask counts frames, not seconds (reading 16): its k-th frame belongs to the target's k-th frame.
    """
    parts = [DEINTERLACE] if mask.interlaced else []
    if pace and not mask.still:
        parts += [f"settb=1/{CLOCK}", _shown(f"N*{CLOCK / target.fps * pace.slowdown:.9g}"), *_at_rate(pace.fps)]
    if mask.alpha:
        parts += ["format=gbrap", "premultiply=inplace=1"]  # transparent is black, whatever colour hides there
    return ",".join([*parts, *_fill(mask, size, "flags=area+accurate_rnd+full_chroma_int"), "format=gray"])


def small(filters: str, side: int, flags: str) -> str:
    """Filters for the same frames as thumbnails, for a check that decodes without the cost of scaling exactly."""
    before, scale, after = filters.rpartition("scale=")
    _, comma, rest = after.partition(",")
    return f"{before}{scale}{side}:{side}:flags={flags}{comma}{rest}"


def _shown(ticks: str) -> str:
    """Filter that bounds nonsense frame times to the range that can be asked for: ffmpeg would fill a gap of years."""
    return f"setpts='clip({ticks}-{EARLY},-{EARLY},{LAST})'"


def _at_rate(fps: float) -> list[str]:
    """Filters that pick the frame on the screen at each moment. The last one stays: ffmpeg may end a tick earlier."""
    return [f"fps={fps:.9g}:round=up:start_time=0", "tpad=stop=1:stop_mode=clone"]


def _fill(video: VideoProbe, size: tuple[int, int], flags: str) -> list[str]:
    width, height = size
    tonemap = [*([BT2020] if video.untagged else []), TONEMAP] if video.hdr else []
    square = [] if video.square_pixels else [f"scale=iw*sar:ih:{flags}", "setsar=1"]
    crop = f"crop='min(iw,ih*{width}/{height})':'min(ih,iw*{height}/{width})':exact=1"
    return [*tonemap, *square, crop, f"scale={width}:{height}:{flags}"]

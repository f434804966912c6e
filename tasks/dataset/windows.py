"""Windows of files: the frames and the sound that the model sees of one clip, once it is settled how many.

Documented in docs/media-rules.md, readings 4, 5 and 16.
"""

from typing import NamedTuple

from schemas.media import FitOptions, FittedAudio, FittedVideo, MediaFile, Picture, SceneRange
from schemas.plan import Track
from tasks.media.filters import Pace, clip_filters, mask_filters
from tasks.media.probe import VideoProbe


class Span(NamedTuple):
    """Frames [start, start + frames) of a clip that may be used."""

    start: int
    frames: int
    scene: SceneRange | None = None


class Shot(NamedTuple):
    """A clip's picture: what the file holds, the frames that may be used, and at which pace they are shown."""

    file: MediaFile
    video: VideoProbe
    span: Span
    pace: Pace | None  # None: as they are


def settle_picture(shot: Shot, picture: Picture, track: Track) -> FittedVideo:
    """The frames of a target or a reference; a reference may be smaller, and slower."""
    file, video, span, pace = shot
    size = (picture.width // track.downscale, picture.height // track.downscale)
    seek = span.scene.seek_seconds if span.scene else 0.0
    return FittedVideo(
        source=file.sha256,
        seek_seconds=round(seek, 6),
        filters=clip_filters(video, size, pace, span.frames, track.temporal_scale),
        width=size[0],
        height=size[1],
        frames=(picture.frames - 1) // track.temporal_scale + 1,
        fps=(pace.fps if pace else video.fps) / track.temporal_scale,
    )


def settle_mask(file: MediaFile, mask: VideoProbe, target: Shot, picture: Picture) -> FittedVideo:
    """The frames of a mask: an image or a short video holds its last frame, a long one is cut."""
    size = (picture.width, picture.height)
    return FittedVideo(
        source=file.sha256,
        seek_seconds=0.0,
        filters=mask_filters(mask, target.video, size, target.pace),
        width=size[0],
        height=size[1],
        frames=picture.frames,
        fps=target.pace.fps if target.pace else target.video.fps,
        hold_last=True,
    )


def follow_picture(shot: Shot, picture: Picture, fitting: FitOptions) -> FittedAudio:
    """The sound of a clip's frames: as long as they are shown, slowed down with them (readings 4, 5)."""
    file, video, span, pace = shot
    fps, slowdown = pace or Pace(video.fps)
    return FittedAudio(
        source=file.sha256,
        start_seconds=round(span.scene.start_seconds if span.scene else video.start, 6),
        seconds=picture.frames / fps / slowdown,
        stretch=slowdown,
        preserve_pitch=fitting.preserve_pitch,
    )

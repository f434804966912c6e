"""Rules of fit, from probes alone: for every sample the frames and sound that the model will see, or why it is skipped.

The rules and how the ambiguous ones are read: docs/media-rules.md, readings 1 to 7 and 16 to 18.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.media import (
    Bucket,
    Clip,
    FitOptions,
    FittedAudio,
    FittedSample,
    FittedVideo,
    MediaFile,
    Picture,
    Role,
    Sample,
    SceneRange,
    Skipped,
)
from schemas.plan import Track
from schemas.rejections import NothingLeft
from schemas.units import CODEC_PADDING_SECONDS, snap_frames
from tasks.dataset.scenes import Inspected, split
from tasks.manifests import Fitted
from tasks.media.filters import Pace, clip_filters, frames_at, mask_filters
from tasks.media.probe import AudioProbe, Probe, Probes, VideoProbe

FEWEST_FRAMES = 9  # of a scene that is retimed: one latent step after the first
RATE_TOLERANCE = 0.05
SHAPE_TOLERANCE = 0.02  # of width to height: 1366x768 is 16:9
MOST_STRETCH = 2.0
MOST_PADDING = 0.1


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


class _Order(NamedTuple):
    """Parameters by which all samples of a run are settled."""

    bucket: Bucket
    tracks: tuple[Track, ...]
    fitting: FitOptions
    probes: Probes


class TooShort(Exception):
    """A clip with less than the bucket needs: its length, the length needed, and the parameter that would help."""


def settle(
    samples: Sequence[Sample], inspected: Inspected, bucket: Bucket, tracks: tuple[Track, ...], fitting: FitOptions
) -> Fitted:
    """Settle every sample by the probes of `inspect`; no file is touched.

    Raises:
        NothingLeft: every sample is too short.
    """
    order = _Order(bucket, tracks, fitting, inspected.probes)
    kept: list[FittedSample] = []
    skipped: list[Skipped] = []
    warnings: list[str] = []
    for sample in split(samples, inspected, bucket, fitting):
        try:
            kept.append(_settle(sample, order))
        except TooShort as reason:
            skipped.append(Skipped(name=sample.name, reason=str(reason)))
        else:
            warnings += [f"{sample.name}: {text}" for text in _warnings(sample, kept[-1], order)]
    if not kept:
        kind = "video" if bucket.picture else "audio"
        plural = "videos" if bucket.picture else "audio clips"
        texts = tuple(f"{one.name}: {one.reason}" for one in skipped)
        raise NothingLeft("training data", kind, plural, texts)
    return Fitted(samples=tuple(kept), skipped=tuple(skipped), warnings=tuple(warnings))


def _settle(sample: Sample, order: _Order) -> FittedSample:
    clips: dict[Role, Clip] = {}
    for role in dict.fromkeys(track.role for track in order.tracks):
        try:
            clips[role] = _settle_clip(sample, role, order)
        except TooShort as reason:
            several = len(sample.files) > 1
            raise TooShort(f"{role}: {reason}" if several else str(reason)) from reason
    names = {role: file.name for role, file in sample.files.items()}
    target = clips["target"].video
    return FittedSample(
        name=sample.name, caption=sample.caption, files=names, clips=clips, fps=target.fps if target else 1.0
    )


def _settle_clip(sample: Sample, role: Role, order: _Order) -> Clip:
    file, picture = sample.files[role], order.bucket.picture
    wanted = {track.modality: track for track in order.tracks if track.role == role}
    probe = order.probes[file.sha256]
    if "video" not in wanted or not picture:
        return Clip(audio=settle_sound(file, _heard(probe), order.bucket.seconds))
    if role == "mask":
        target = _shot(sample, "target", picture, order)
        return Clip(video=settle_mask(file, _seen(probe), target, picture))
    shot = _shot(sample, role, picture, order)
    audio = follow_picture(shot, picture, order.fitting) if "audio" in wanted else None
    return Clip(video=settle_picture(shot, picture, wanted["video"]), audio=audio)


def _shot(sample: Sample, role: Role, picture: Picture, order: _Order) -> Shot:
    file, scene = sample.files[role], sample.scene
    video = _seen(order.probes[file.sha256])
    span = Span(scene.start, scene.end - scene.start, scene) if scene else Span(0, video.frames)
    return Shot(file, video, span, _pace(video, span, picture, order.fitting))


def _pace(video: VideoProbe, span: Span, picture: Picture, fitting: FitOptions) -> Pace | None:
    """The rate to retime a clip to, slower where the clip is too short; None keeps its frames (readings 1, 2)."""
    if not fitting.auto_scale:
        if span.frames < picture.frames:
            lower = f"lower number_of_frames to {snap_frames(span.frames)} or " if span.frames >= FEWEST_FRAMES else ""
            have = f"have {span.frames} frames at {plain(video.fps)} fps"
            raise TooShort(f"{have}, need {picture.frames}; {lower}turn on auto_scale_input")
        return None
    seconds = span.scene.seconds if span.scene else span.frames / video.fps
    if span.frames < video.frames and span.frames < FEWEST_FRAMES:
        raise TooShort(
            f"have {span.frames} frames in this scene, need {FEWEST_FRAMES}; raise split_input_duration_threshold"
        )
    if frames_at(seconds, picture.fps) >= picture.frames:
        return Pace(picture.fps)
    return Pace(picture.fps, picture.frames / picture.fps / seconds)


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


def settle_sound(file: MediaFile, sound: AudioProbe, seconds: float) -> FittedAudio:
    """The opening of a sound without a picture; it is never stretched (reading 4)."""
    if sound.seconds < seconds - CODEC_PADDING_SECONDS:
        have = int(sound.seconds * 100) / 100
        remedy = f"lower audio_duration_seconds to {plain(have)}" if have >= 0.5 else "use a longer clip"
        raise TooShort(f"have {plain(have)} s, need {plain(seconds)} s; {remedy}")
    return FittedAudio(source=file.sha256, start_seconds=round(sound.start, 6), seconds=seconds)


def plain(number: float) -> str:
    """A number with no more digits than a reader needs: 23.976, 24, 3.5."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _warnings(sample: Sample, fitted: FittedSample, order: _Order) -> list[str]:
    texts: list[str] = []
    rates: list[float] = []
    for role, clip in fitted.clips.items():
        probe = order.probes[sample.files[role].sha256]
        if clip.video and order.bucket.picture and role != "mask":
            texts += _rate_warnings(role, _seen(probe), order.bucket.picture, order.fitting)
            rates.append(_seen(probe).fps)
        if clip.video and role != "target":
            texts += _shape_warnings(role, _seen(probe), _seen(order.probes[sample.files["target"].sha256]))
        if clip.audio:
            texts += _sound_warnings(role, clip.audio, _heard(probe))
    if not order.fitting.auto_scale and rates and max(rates) - min(rates) > 0.01:
        texts.append(f"target and reference are at {' and '.join(plain(rate) for rate in rates)} fps: they drift apart")
    return texts


def _rate_warnings(role: Role, video: VideoProbe, picture: Picture, fitting: FitOptions) -> list[str]:
    if fitting.auto_scale or abs(video.fps - picture.fps) <= RATE_TOLERANCE * picture.fps:
        return []
    return [
        f"the {role} is at {plain(video.fps)} fps, frame_rate is {plain(picture.fps)}: "
        "its frames are used as they are; turn on auto_scale_input to retime it"
    ]


def _shape_warnings(role: Role, video: VideoProbe, target: VideoProbe) -> list[str]:
    """Warnings of files of other shapes: each is cropped in its own middle, so they do not lie over each other."""
    if abs(video.width * target.height / (video.height * target.width) - 1) <= SHAPE_TOLERANCE:
        return []
    shapes = f"{video.width}x{video.height}, the target is {target.width}x{target.height}"
    return [f"the {role} is {shapes}: they are cropped differently and do not lie over each other"]


def _sound_warnings(role: Role, audio: FittedAudio, sound: AudioProbe) -> list[str]:
    texts = [f"the {role} is slowed down {audio.stretch:.1f} times"] if audio.stretch > MOST_STRETCH else []
    heard = min(sound.end, audio.start_seconds + audio.seconds) - max(sound.start, audio.start_seconds)
    missing = 1 - max(heard, 0.0) / audio.seconds
    if missing > MOST_PADDING:
        texts.append(f"{missing:.0%} of the {role}'s sound is silence: its audio track does not cover its frames")
    return texts


def _seen(probe: Probe) -> VideoProbe:
    assert probe.video is not None  # look() refuses a file without a picture where one is needed
    return probe.video


def _heard(probe: Probe) -> AudioProbe:
    assert probe.audio is not None
    return probe.audio

"""Rules of fit, from probes alone: for every sample the frames and sound that the model will see, or why it is skipped.

The rules and how the ambiguous ones are read: docs/media-rules.md, readings 1 to 7 and 16 to 18.
"""

from collections.abc import Iterator, Mapping, Sequence

from schemas.media import (
    Clip,
    FitOptions,
    FittedAudio,
    FittedSample,
    MediaFile,
    Picture,
    Role,
    Sample,
    Skipped,
)
from schemas.rejections import NothingLeft
from schemas.report import Remark
from schemas.units import CODEC_PADDING_SECONDS
from schemas.wording import FEW, either, hundredths, listed, plain
from tasks.dataset.order import Order
from tasks.dataset.scenes import Inspected, split
from tasks.dataset.windows import Shot, Span, follow_picture, settle_mask, settle_picture
from tasks.manifests import Fitted
from tasks.media.filters import Pace, frames_at
from tasks.media.probe import AudioProbe, Probe, Probes, VideoProbe

FEWEST_FRAMES = 9  # of a scene that is retimed: one latent step after the first
RATE_TOLERANCE = 0.05
SHAPE_TOLERANCE = 0.02  # of width to height: 1366x768 is 16:9
MOST_STRETCH = 2.0
MOST_PADDING = 0.1


class TooShort(Exception):
    """A clip with less than the bucket needs."""

    def __init__(self, facts: str, have: float) -> None:
        super().__init__(facts, have)
        self.facts, self.have = facts, have  # `have` in frames, or in seconds of a sound without a picture


def settle(samples: Sequence[Sample], inspected: Inspected, order: Order) -> Fitted:
    """Settle every sample by the probes of `inspect`; no file is touched.

    Raises:
        NothingLeft: every sample is too short.
    """
    kept: list[FittedSample] = []
    skipped: list[Skipped] = []
    remarks: list[Remark] = []
    for sample in split(samples, inspected, order):
        settled = _settle(sample, inspected.probes, order)
        if isinstance(settled, Skipped):
            skipped.append(settled)
        else:
            kept.append(settled)
            remarks += _remarks(sample, settled, inspected.probes, order)
    if not kept:
        raise _nothing_left(skipped, order)
    return Fitted(samples=tuple(kept), skipped=tuple(skipped), warnings=tuple(remarks))


def _settle(sample: Sample, probes: Probes, order: Order) -> FittedSample | Skipped:
    clips: dict[Role, Clip] = {}
    short: dict[Role, TooShort] = {}
    for role in dict.fromkeys(track.role for track in order.tracks):
        try:
            if not (role == "mask" and "target" in short):  # its length does not matter, but its clip's does
                clips[role] = _settle_clip(sample, role, probes, order)
        except TooShort as reason:
            short[role] = reason
    if short:
        return _skipped(sample, short, probes, order)
    names = {role: file.name for role, file in sample.files.items()}
    target = clips["target"].video
    return FittedSample(
        name=sample.name, caption=sample.caption, files=names, clips=clips, fps=target.fps if target else 1.0
    )


def _settle_clip(sample: Sample, role: Role, probes: Probes, order: Order) -> Clip:
    file, picture = sample.files[role], order.bucket.picture
    wanted = {track.modality: track for track in order.tracks if track.role == role}
    probe = probes[file.sha256]
    if "video" not in wanted or not picture:
        return Clip(audio=settle_sound(file, _heard(probe), order.bucket.seconds))
    if role == "mask":
        target = _shot(sample, "target", picture, probes, order)
        return Clip(video=settle_mask(file, _seen(probe), target, picture))
    shot = _shot(sample, role, picture, probes, order)
    audio = follow_picture(shot, picture, order.fitting) if "audio" in wanted else None
    return Clip(video=settle_picture(shot, picture, wanted["video"]), audio=audio)


def _shot(sample: Sample, role: Role, picture: Picture, probes: Probes, order: Order) -> Shot:
    file, scene = sample.files[role], sample.scene
    video = _seen(probes[file.sha256])
    span = Span(scene.start, scene.end - scene.start, scene) if scene else Span(0, video.frames)
    return Shot(file, video, span, _pace(video, span, picture, order.fitting))


def _pace(video: VideoProbe, span: Span, picture: Picture, fitting: FitOptions) -> Pace | None:
    """The rate to retime a clip to, slower where the clip is too short; None keeps its frames (readings 1, 2)."""
    if not fitting.auto_scale:
        if span.frames < picture.frames:
            facts = f"have {span.frames} frames at {plain(video.fps)} fps, need {picture.frames}"
            raise TooShort(facts, span.frames)
        return None
    seconds = span.scene.seconds if span.scene else span.frames / video.fps
    if span.frames < video.frames and span.frames < FEWEST_FRAMES:
        raise TooShort(f"have {span.frames} frames in this scene, need {FEWEST_FRAMES}", span.frames)
    if frames_at(seconds, picture.fps) >= picture.frames:
        return Pace(picture.fps)
    return Pace(picture.fps, picture.frames / picture.fps / seconds)


def _skipped(sample: Sample, short: Mapping[Role, TooShort], probes: Probes, order: Order) -> Skipped:
    """The sample with what its clips have and need, and with the changes that would keep it."""
    named = len(sample.files) > 1
    facts = [f"{role}: {reason.facts}" if named else reason.facts for role, reason in short.items()]
    have = min(reason.have for reason in short.values())
    ways = either([*_remedies(sample, have, probes, order)]) or "use a longer clip"
    return Skipped(name=sample.name, reason=f"{'; '.join(facts)}; {ways}")


def _nothing_left(skipped: Sequence[Skipped], order: Order) -> NothingLeft:
    alike: dict[str, list[str]] = {}
    for one in skipped:
        alike.setdefault(one.reason, []).append(one.name)
    told = [f"{listed(names)}: {reason}" for reason, names in alike.items()]
    more = [f"and {len(told) - FEW} more reasons"] if len(told) > FEW else []
    kind, plural = ("video", "videos") if order.bucket.picture else ("audio", "audio clips")
    texts = tuple(f"{one.name}: {one.reason}" for one in skipped)
    return NothingLeft("training data", kind, plural, texts, (*told[:FEW], *more))


def _remedies(sample: Sample, have: float, probes: Probes, order: Order) -> Iterator[str]:
    """Changes of one parameter that the request would accept, each of which keeps the sample."""
    fitting, picture = order.fitting, order.bucket.picture
    if picture is None:
        seconds = hundredths(have)
        if seconds >= fitting.least_seconds:
            yield f"lower audio_duration_seconds to {plain(seconds)}"
        return
    if not fitting.auto_scale:
        if lower := max((count for count in fitting.frame_counts if count <= have), default=0):
            yield f"lower number_of_frames to {lower}"
        if not sample.scene or have >= FEWEST_FRAMES:
            yield "turn on auto_scale_input"
    whole = _seen(probes[sample.files["target"].sha256]).frames
    if sample.scene and (fitting.auto_scale or whole >= picture.frames):
        yield "turn off split_input_into_scenes"


def settle_sound(file: MediaFile, sound: AudioProbe, seconds: float) -> FittedAudio:
    """The opening of a sound without a picture; it is never stretched (reading 4)."""
    if sound.seconds < seconds - CODEC_PADDING_SECONDS:
        raise TooShort(f"have {plain(hundredths(sound.seconds))} s, need {plain(seconds)} s", sound.seconds)
    return FittedAudio(source=file.sha256, start_seconds=round(sound.start, 6), seconds=seconds)


def _remarks(sample: Sample, fitted: FittedSample, probes: Probes, order: Order) -> Iterator[Remark]:
    """Warnings of a sample that is kept."""
    rates: list[float] = []
    picture = order.bucket.picture
    for role, clip in fitted.clips.items():
        probe = probes[sample.files[role].sha256]
        if clip.video and picture and role != "mask":
            rates.append(_seen(probe).fps)
            yield from _pace_remarks(sample.name, role, _shot(sample, role, picture, probes, order), order)
        if clip.video and role != "target":
            yield from _shape_remarks(sample.name, role, _seen(probe), _seen(probes[sample.files["target"].sha256]))
        if clip.audio:
            yield from _sound_remarks(sample.name, role, clip.audio, _heard(probe))
    if not order.fitting.auto_scale and rates and max(rates) - min(rates) > 0.01:
        shown = " and ".join(plain(rate) for rate in rates)
        text = f"target and reference are at {shown} fps: they drift apart"
        yield Remark(sample=sample.name, text=text, kind="rates differ")


def _pace_remarks(sample: str, role: Role, shot: Shot, order: Order) -> Iterator[Remark]:
    fps, picture = shot.video.fps, order.bucket.picture
    assert picture is not None
    if not shot.pace and abs(fps - picture.fps) > RATE_TOLERANCE * picture.fps:
        used = "its frames are used as they are; turn on auto_scale_input to retime it"
        text = f"the {role} is at {plain(fps)} fps, frame_rate is {plain(picture.fps)}: {used}"
        yield Remark(sample=sample, role=role, text=text, kind="rate")
    if shot.pace and shot.pace.slowdown > MOST_STRETCH:
        enough = MOST_STRETCH * picture.frames / shot.pace.slowdown
        lower = max((count for count in order.fitting.frame_counts if count <= enough), default=0)
        ways = either(["use a longer clip", *([f"lower number_of_frames to {lower}"] if lower else [])])
        text = f"the {role} is slowed down {shot.pace.slowdown:.1f} times to fill {picture.frames} frames; {ways}"
        yield Remark(sample=sample, role=role, text=text, kind="slow")


def _shape_remarks(sample: str, role: Role, video: VideoProbe, target: VideoProbe) -> Iterator[Remark]:
    """Remarks on files of other shapes: each is cropped in its own middle, so they do not lie over each other."""
    if abs(video.width * target.height / (video.height * target.width) - 1) > SHAPE_TOLERANCE:
        shapes = f"{video.width}x{video.height}, the target is {target.width}x{target.height}"
        text = f"the {role} is {shapes}: they are cropped differently and do not lie over each other"
        yield Remark(sample=sample, role=role, text=text, kind="shape")


def _sound_remarks(sample: str, role: Role, audio: FittedAudio, sound: AudioProbe) -> Iterator[Remark]:
    heard = min(sound.end, audio.start_seconds + audio.seconds) - max(sound.start, audio.start_seconds)
    missing = 1 - max(heard, 0.0) / audio.seconds
    if missing > MOST_PADDING:
        whose = f"the {role}'s sound"
        text = f"{missing:.0%} of {whose} is silence: its audio track does not cover its frames"
        yield Remark(sample=sample, role=role, text=text, kind="silence")


def _seen(probe: Probe) -> VideoProbe:
    assert probe.video is not None  # look() refuses a file without a picture where one is needed
    return probe.video


def _heard(probe: Probe) -> AudioProbe:
    assert probe.audio is not None
    return probe.audio

"""Rules for the files of validation samples, settled from probes: each has to be as long as the part it gives.

Previews run at one frame rate, so all files are retimed to that rate; nothing is stretched.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from schemas.faults import all_of, refuse
from schemas.media import (
    FRAME_COUNTS,
    Bucket,
    Clip,
    FitOptions,
    FittedAudio,
    FittedSample,
    FittedVideo,
    MediaFile,
    Picture,
    Role,
    ShorterPreview,
)
from schemas.plan import Plan, Track
from schemas.preview import GivenFile, PreviewSample
from schemas.rejections import ClipTooShort, DataRejected, Loc
from schemas.request import ValidationSample, opening_steps
from schemas.units import AUDIO_STEPS_PER_SECOND, CODEC_PADDING_SECONDS, FRAMES_PER_STEP, video_frames
from schemas.wording import either, hundredths, plain
from tasks.dataset.inspect import look
from tasks.dataset.windows import Shot, Span, settle_mask, settle_picture
from tasks.media.filters import Pace, frames_at
from tasks.media.probe import Probes

AS_LONG = "use a longer clip"


class _Order(NamedTuple):
    """Parameters by which a validation sample is settled."""

    plan: Plan
    bucket: Bucket
    fitting: FitOptions
    probes: Probes


def with_media(
    samples: Sequence[ValidationSample], tracks: tuple[Track, ...], fetch: Callable[[str, Loc], MediaFile]
) -> tuple[PreviewSample, ...]:
    """Validation samples with the files that their URLs lead to.

    Raises:
        InputRejected: all that cannot be fetched, together.
    """
    asked = [sample.given(tracks, ("validation", index)) for index, sample in enumerate(samples)]
    files = iter(all_of(partial(fetch, url, where) for given in asked for _, url, where in given))
    return tuple(
        PreviewSample(
            name=f"preview {index + 1}",
            prompt=sample.prompt,
            given=tuple(GivenFile(track=track, file=next(files), where=where) for track, _, where in given),
        )
        for index, (sample, given) in enumerate(zip(samples, asked, strict=True))
    )


def settle_given(preview: PreviewSample, plan: Plan, bucket: Bucket, fitting: FitOptions) -> FittedSample:
    """Settle a validation sample; its prompt becomes the caption.

    Raises:
        Rejections, ClipTooShort, SilentClip, UnreadableClip, UnsupportedFile: each names its request field.
    """
    probes = _look_at(preview, fitting)
    order = _Order(plan, bucket, fitting, probes)
    clips: dict[Role, Clip] = {}
    faults: list[DataRejected] = []
    for given in preview.given:
        clip = clips.get(given.track.role, Clip())
        try:
            clips[given.track.role] = clip.model_copy(update={given.track.modality: _settle(given, preview, order)})
        except ClipTooShort as fault:
            faults.append(fault)
    if faults:
        refuse(faults)
    fps = bucket.picture.fps if bucket.picture else 1.0
    return FittedSample(name=preview.name, caption=preview.prompt, clips=clips, fps=fps)


def _look_at(preview: PreviewSample, fitting: FitOptions) -> Probes:
    probes = {}
    faults: list[DataRejected] = []
    for given in preview.given:
        try:
            wanted = (given.track.modality,)
            probes[given.file.sha256] = look(given.file, given.track.role, wanted, fitting.sound_remedy, given.where)
        except DataRejected as fault:
            faults.append(fault)
    if faults:
        refuse(faults)
    return probes


def _settle(given: GivenFile, preview: PreviewSample, order: _Order) -> FittedVideo | FittedAudio:
    if given.track.modality == "audio":
        return _sound(given, preview, order)
    picture = order.bucket.picture
    assert picture is not None
    if given.track.role == "mask":
        target = _files(preview, "target")[0]
        mask = order.probes[given.file.sha256].video
        assert mask
        return settle_mask(given.file, mask, _shot(target, picture, order.probes), picture)
    return _picture(given, picture, order)


def _picture(given: GivenFile, picture: Picture, order: _Order) -> FittedVideo:
    prefix = _prefix_steps(given, order.plan)
    need = video_frames(prefix) if prefix else picture.frames
    shot = _shot(given, picture, order.probes)
    have = frames_at(shot.video.seconds, picture.fps)
    if have < need:
        ways = _fewer_frames(lambda frames: frames <= have, prefix, order)
        facts = f"{have} frames at {plain(picture.fps)} fps", str(need)
        raise ClipTooShort(given.file.name, "video", *facts, either([AS_LONG, *ways]), where=given.where)
    return settle_picture(shot, picture.model_copy(update={"frames": need}), given.track)


def _shot(given: GivenFile, picture: Picture, probes: Probes) -> Shot:
    video = probes[given.file.sha256].video
    assert video
    return Shot(given.file, video, Span(0, video.frames), Pace(picture.fps))


def _sound(given: GivenFile, preview: PreviewSample, order: _Order) -> FittedAudio:
    """Sound window: from the first frame on where the file has a picture; after a reference's track, silence."""
    prefix = _prefix_steps(given, order.plan)
    need = prefix / AUDIO_STEPS_PER_SECOND if prefix else order.bucket.seconds
    probe = order.probes[given.file.sha256]
    assert probe.audio
    start = probe.video.start if probe.video else probe.audio.start
    have = max(probe.audio.end - start, 0.0)
    padded = not prefix and any(given.file == picture.file for picture in _files(preview, given.track.role))
    if have < need - CODEC_PADDING_SECONDS and not padded:
        ways = either([AS_LONG, *_less_sound(have + CODEC_PADDING_SECONDS, prefix, order)])
        facts = f"{plain(hundredths(have))} s of sound", f"{plain(need)} s"
        raise ClipTooShort(given.file.name, "audio", *facts, ways, where=given.where)
    return FittedAudio(source=given.file.sha256, start_seconds=round(start, 6), seconds=need)


def _less_sound(enough: float, prefix: int, order: _Order) -> list[str]:
    """The longest opening or preview for which there is enough sound, in the parameter that sets it."""
    picture = order.bucket.picture
    if picture is not None:
        fps = picture.fps

        def seconds_of(frames: int) -> float:
            return opening_steps(frames / fps) / AUDIO_STEPS_PER_SECOND if prefix else frames / fps

        return _fewer_frames(lambda frames: seconds_of(frames) <= enough, prefix, order)
    if prefix:
        shorter = (each / 100 for each in range(int(enough * 100), 9, -1))
        fits = (each for each in shorter if opening_steps(each) / AUDIO_STEPS_PER_SECOND <= enough)
        return [f"lower conditioning_seconds to {plain(each)}" for each in fits][:1]
    ways: dict[str, ShorterPreview] = {}
    for change in sorted(order.fitting.shorter_previews, key=lambda each: each.seconds):
        if change.seconds <= enough:
            ways[change.parameter] = change  # the longest comes last
    raised = {"validation_frame_rate": "raise", "audio_duration_seconds": "lower"}
    return [f"{raised[name]} {name} to {plain(change.value)}" for name, change in ways.items()]


def _fewer_frames(enough: Callable[[int], bool], prefix: int, order: _Order) -> list[str]:
    """The longest opening or preview, in frames, that a file is long enough for."""
    step = 1 if prefix else max(track.temporal_scale for track in order.plan.tracks)  # a reference keeps 8k+1 frames
    counts = (count for count in FRAME_COUNTS if (count - 1) % (step * FRAMES_PER_STEP) == 0 and enough(count))
    field = "conditioning_frames" if prefix else "validation_number_of_frames"
    return [f"lower {field} to {count}" for count in (max(counts, default=0),) if count]


def _prefix_steps(given: GivenFile, plan: Plan) -> int:
    """Latent steps of the target that are given, 0 where the whole file is needed."""
    kept = plan.streams[given.track.modality].kept
    return 0 if given.track.role != "target" or kept.region else kept.opening


def _files(preview: PreviewSample, role: Role) -> Sequence[GivenFile]:
    return [given for given in preview.given if given.track.role == role and given.track.modality == "video"]

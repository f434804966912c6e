"""Rules for the files of validation samples, settled from probes: each has to be as long as the part it gives.

Previews run at one frame rate, so all files are retimed to that rate; nothing is stretched.
"""

from collections.abc import Callable, Sequence
from functools import partial

from schemas.faults import all_of, refuse
from schemas.media import Bucket, Clip, FitOptions, FittedAudio, FittedSample, FittedVideo, MediaFile, Picture, Role
from schemas.plan import Plan, Track
from schemas.preview import GivenFile, PreviewSample
from schemas.rejections import ClipTooShort, DataRejected, Loc
from schemas.request import ValidationSample
from schemas.units import AUDIO_STEPS_PER_SECOND, CODEC_PADDING_SECONDS, video_frames
from tasks.dataset.inspect import look
from tasks.dataset.rules import Shot, Span, plain, settle_mask, settle_picture
from tasks.media.filters import Pace, frames_at
from tasks.media.probe import Probes

AS_LONG = "use a longer clip"


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
    probes = _look_at(preview)
    clips: dict[Role, Clip] = {}
    faults: list[DataRejected] = []
    for given in preview.given:
        clip = clips.get(given.track.role, Clip())
        try:
            clips[given.track.role] = clip.model_copy(
                update={given.track.modality: _settle(given, preview, plan, bucket, probes)}
            )
        except ClipTooShort as fault:
            faults.append(fault)
    if faults:
        refuse(faults)
    fps = bucket.picture.fps if bucket.picture else 1.0
    return FittedSample(name=preview.name, caption=preview.prompt, clips=clips, fps=fps)


def _look_at(preview: PreviewSample) -> Probes:
    probes = {}
    faults: list[DataRejected] = []
    for given in preview.given:
        try:
            probes[given.file.sha256] = look(given.file, given.track.role, (given.track.modality,), given.where)
        except DataRejected as fault:
            faults.append(fault)
    if faults:
        refuse(faults)
    return probes


def _settle(
    given: GivenFile, preview: PreviewSample, plan: Plan, bucket: Bucket, probes: Probes
) -> FittedVideo | FittedAudio:
    if given.track.modality == "audio":
        return _sound(given, preview, plan, bucket, probes)
    assert bucket.picture is not None
    picture = bucket.picture
    if given.track.role == "mask":
        target = _files(preview, "target")[0]
        mask = probes[given.file.sha256].video
        assert mask
        return settle_mask(given.file, mask, _shot(target, picture, probes), picture)
    return _picture(given, plan, picture, probes)


def _picture(given: GivenFile, plan: Plan, picture: Picture, probes: Probes) -> FittedVideo:
    prefix = _prefix_steps(given, plan)
    need = video_frames(prefix) if prefix else picture.frames
    shot = _shot(given, picture, probes)
    have = frames_at(shot.video.seconds, picture.fps)
    if have < need:
        rate = f"{plain(picture.fps)} fps"
        field = "conditioning_frames" if prefix else "validation_number_of_frames"
        raise ClipTooShort(
            given.file.name,
            "video",
            f"{have} frames at {rate}",
            str(need),
            f"{AS_LONG} or lower {field}",
            where=given.where,
        )
    return settle_picture(shot, picture.model_copy(update={"frames": need}), given.track)


def _shot(given: GivenFile, picture: Picture, probes: Probes) -> Shot:
    video = probes[given.file.sha256].video
    assert video
    return Shot(given.file, video, Span(0, video.frames), Pace(picture.fps))


def _sound(given: GivenFile, preview: PreviewSample, plan: Plan, bucket: Bucket, probes: Probes) -> FittedAudio:
    """Sound window: from the first frame on where the file has a picture; after a reference's track, silence."""
    prefix = _prefix_steps(given, plan)
    need = prefix / AUDIO_STEPS_PER_SECOND if prefix else bucket.seconds
    probe = probes[given.file.sha256]
    assert probe.audio
    start = probe.video.start if probe.video else probe.audio.start
    have = max(probe.audio.end - start, 0.0)
    padded = not prefix and any(given.file == picture.file for picture in _files(preview, given.track.role))
    if have < need - CODEC_PADDING_SECONDS and not padded:
        spans_frames = plan.video is not None
        lengths = (
            ("validation_number_of_frames", "conditioning_frames")
            if spans_frames
            else ("audio_duration_seconds", "conditioning_seconds")
        )
        remedy = f"{AS_LONG} or lower {lengths[bool(prefix)]}"
        texts = f"{plain(int(have * 100) / 100)} s of sound", f"{plain(need)} s"
        raise ClipTooShort(given.file.name, "audio", *texts, remedy, where=given.where)
    return FittedAudio(source=given.file.sha256, start_seconds=round(start, 6), seconds=need)


def _prefix_steps(given: GivenFile, plan: Plan) -> int:
    """Latent steps of the target that are given, 0 where the whole file is needed."""
    kept = plan.streams[given.track.modality].kept
    return 0 if given.track.role != "target" or kept.region else kept.opening


def _files(preview: PreviewSample, role: Role) -> Sequence[GivenFile]:
    return [given for given in preview.given if given.track.role == role and given.track.modality == "video"]

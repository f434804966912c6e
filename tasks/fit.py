"""Fit: settle for every clip the exact frames and sound that the model will see, and check that they decode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.media import Bucket, Clip, FitOptions, FittedAudio, FittedSample, FittedVideo, Frozen, Role, Sample
from schemas.plan import Plan, Track
from schemas.preview import PreviewSample
from schemas.rejections import TRAINING_DATA, Loc, UnreadableClip
from schemas.report import Remark
from schemas.units import WHITE_ABOVE
from tasks.dataset.inspect import inspect
from tasks.dataset.order import Order
from tasks.dataset.preview_rules import settle_given
from tasks.dataset.rules import settle
from tasks.dataset.suggestions import won_back
from tasks.manifests import Fitted
from tasks.media.ffmpeg import decode_audio, decode_held, decode_video
from tasks.media.filters import small
from tasks.media.waveform import SILENCE, peak_gain
from tasks.media.workers import each
from tasks.step import Progress, listed, step
from tasks.storage.memo import remembered
from tasks.storage.store import key_of, store

VERSION = 3  # of what a check finds
THUMBNAIL = 16  # pixels a side: decoding is what is checked, not the picture
CHECK_RATE = 16_000  # of LTX-2's audio encoder: its peak is what counts
Shown = Callable[[int, int], None]


def _told(fitted: Fitted) -> str:
    names = [*(sample.name for sample in fitted.samples), *(skipped.name for skipped in fitted.skipped)]
    scenes = [name for name in names if "#s" in name]
    counts = f"{len(fitted.samples)} samples kept, {len(fitted.skipped)} skipped, {len(fitted.warnings)} warnings"
    found = f", {len(scenes)} of them scenes of longer clips" if scenes else ""
    skipped = [f"{one.name} is skipped: {one.reason}" for one in fitted.skipped]
    return f"{counts}{found}{listed(skipped)}{listed(fitted.warnings)}"


@step("fit", version=5, says=_told)
def fit(samples: tuple[Sample, ...], bucket: Bucket, tracks: tuple[Track, ...], fitting: FitOptions) -> Fitted:
    """Samples -> the frames and sound seen of each; samples that are too short are skipped with their reason."""
    return fit_samples(samples, bucket, tracks, fitting, Progress("fit", "Clips checked"))


@step(
    "fit-previews",
    version=6,
    says=lambda fitted: f"{len(fitted.samples)} validation samples{listed(fitted.warnings)}",
)
def fit_previews(previews: tuple[PreviewSample, ...], plan: Plan, bucket: Bucket, fitting: FitOptions) -> Fitted:
    """Validation samples -> the frames and sound given of each."""
    return fit_all_given(previews, plan, bucket, fitting)


class Check(Frozen):
    """Result of decoding a clip."""

    gain: float = 1.0
    mask_frames: int | None = None  # that a mask's file has
    remarks: tuple[str, ...] = ()  # to be read after "the target", "the mask"


@dataclass(frozen=True)
class _Part:
    """One track of one role of a sample, and its name in messages."""

    sample: str
    role: Role
    content: FittedVideo | FittedAudio
    file: str
    where: Loc = TRAINING_DATA


def fit_samples(
    samples: tuple[Sample, ...],
    bucket: Bucket,
    tracks: tuple[Track, ...],
    fitting: FitOptions,
    progress: Shown | None = None,
) -> Fitted:
    """Settle every sample and check that each kept clip decodes to exactly the promised length.

    Raises:
        Rejections, UnreadableClip, UnsupportedFile, SilentClip, NothingLeft: as `inspect` and `settle`; or a clip
            breaks off.
    """
    order = Order(bucket, tracks, fitting)
    inspected = inspect(samples, order)
    settled = settle(samples, inspected, order)
    names = {file.sha256: file.name for sample in samples for file in sample.files.values()}
    parts = [part for sample in settled.samples for part in _parts(sample, names)]
    checks = each(lambda part: _check(part, fitting.normalize), parts, progress)
    checked = {(part.sample, part.role, part.content): check for part, check in zip(parts, checks, strict=True)}
    return Fitted(
        samples=tuple(_as_checked(sample, checked) for sample in settled.samples),
        skipped=settled.skipped,
        warnings=(*settled.warnings, *_remarks(parts, checks)),
        wins=won_back(samples, inspected, settled, order),
    )


def fit_all_given(previews: tuple[PreviewSample, ...], plan: Plan, bucket: Bucket, fitting: FitOptions) -> Fitted:
    """Settle all validation samples and check that their files decode; none is ever skipped.

    Raises:
        Rejections, ClipTooShort, SilentClip, UnreadableClip, UnsupportedFile: each names its request field.
    """
    fitted = each(lambda preview: _fit_given(preview, plan, bucket, fitting), previews)
    warnings = tuple(remark for _, remarks in fitted for remark in remarks)
    return Fitted(samples=tuple(sample for sample, _ in fitted), skipped=(), warnings=warnings)


def _fit_given(
    preview: PreviewSample, plan: Plan, bucket: Bucket, fitting: FitOptions
) -> tuple[FittedSample, tuple[Remark, ...]]:
    settled = settle_given(preview, plan, bucket, fitting)
    parts = [
        _Part(preview.name, given.track.role, content, given.file.name, given.where)
        for given in preview.given
        if (content := getattr(settled.clips[given.track.role], given.track.modality))
    ]
    checks = each(lambda part: _check(part, fitting.normalize), parts)
    checked = {(p.sample, p.role, p.content): c for p, c in zip(parts, checks, strict=True)}
    return _as_checked(settled, checked), _remarks(parts, checks)


def _remarks(parts: Sequence[_Part], checks: Sequence[Check]) -> tuple[Remark, ...]:
    return tuple(
        Remark(sample=part.sample, role=part.role, text=f"the {part.role}{text}")
        for part, check in zip(parts, checks, strict=True)
        for text in check.remarks
    )


def _parts(sample: FittedSample, names: Mapping[str, str]) -> list[_Part]:
    return [
        _Part(sample.name, role, content, names[content.source])
        for role, clip in sample.clips.items()
        for content in (clip.video, clip.audio)
        if content
    ]


def _check(part: _Part, normalize: bool) -> Check:
    """Decode a clip, once for all runs that ask for the same one."""
    address = f"fits/{key_of('fit', VERSION, part.role == 'mask', part.content, normalize)}"
    return remembered(address, Check, lambda: _decode(part, normalize))


def _decode(part: _Part, normalize: bool) -> Check:
    try:
        with store().media(part.content.source) as path:
            if isinstance(part.content, FittedAudio):
                wave = decode_audio(path, part.content, CHECK_RATE, name=part.file)
                silent = float(np.abs(wave).max(initial=0.0)) < SILENCE
                remark = ("'s sound is silent",) if silent else ()
                return Check(gain=peak_gain(wave) if normalize else 1.0, remarks=remark)
            if part.role == "mask":
                frames, whole = decode_held(path, part.content, name=part.file)
                return Check(mask_frames=whole, remarks=_mask_remarks(frames[..., 0] > WHITE_ABOVE))
            filters = small(part.content.filters, THUMBNAIL, "neighbor")  # nobody looks at it
            size = {"filters": filters, "width": THUMBNAIL, "height": THUMBNAIL}
            decode_video(path, part.content.model_copy(update=size), name=part.file)
    except UnreadableClip as error:
        raise UnreadableClip(part.file, kind=error.kind, reason=error.reason, where=part.where) from error
    return Check()


def _mask_remarks(white: np.ndarray) -> tuple[str, ...]:
    if not white.any():
        return (" is all black: nothing of the clip would be regenerated",)
    if white.all():
        return (" is all white: all of the clip would be regenerated",)
    return ()


def _as_checked(
    sample: FittedSample, checks: Mapping[tuple[str, Role, FittedVideo | FittedAudio], Check]
) -> FittedSample:
    def checked(role: Role, clip: Clip) -> Clip:
        found: dict[str, Any] = {}
        if clip.audio:
            gain = checks[sample.name, role, clip.audio].gain
            found["audio"] = clip.audio.model_copy(update={"gain": gain})
        if clip.video:
            found["mask_frames"] = checks[sample.name, role, clip.video].mask_frames
        return clip.model_copy(update=found)

    return sample.model_copy(update={"clips": {role: checked(role, clip) for role, clip in sample.clips.items()}})

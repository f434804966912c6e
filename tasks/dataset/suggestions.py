"""Suggestions: one parameter of the request that, if changed, would win back skipped samples."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from schemas.media import Bucket, FitOptions, Sample
from schemas.plan import Track
from schemas.rejections import NothingLeft
from schemas.report import Suggestion
from schemas.units import FRAMES_PER_STEP
from tasks.dataset.rules import FEWEST_FRAMES, settle
from tasks.dataset.scenes import Inspected, split
from tasks.manifests import Fitted
from tasks.media.probe import Probes

MOST_VALUES = 5  # of one parameter: each clip of a large set may have a length of its own
SHORTEST_SOUND = 0.5  # what audio_duration_seconds may be at least


class _Change(NamedTuple):
    """One parameter with another value, and the bucket and fit options that follow."""

    parameter: str
    value: int | float | bool
    bucket: Bucket
    fitting: FitOptions


def won_back(
    samples: Sequence[Sample],
    inspected: Inspected,
    settled: Fitted,
    bucket: Bucket,
    tracks: tuple[Track, ...],
    fitting: FitOptions,
) -> tuple[Suggestion, ...]:
    """Try each change on the skipped samples; no file is touched. Kept samples stay kept: clips need less, not more."""
    if not settled.skipped:
        return ()
    names = {one.name for one in settled.skipped}
    lost = tuple(sample for sample in split(samples, inspected, bucket, fitting) if sample.name in names)
    kept, of = len(settled.samples), len(settled.samples) + len(settled.skipped)
    as_they_are = fitting.model_copy(update={"split_above_seconds": None})  # scenes are not split again
    wins = [
        Suggestion(parameter=change.parameter, value=change.value, keeps=kept + gained, of=of)
        for change in _changes(lost, inspected.probes, bucket, tracks, as_they_are)
        if (gained := _count(lost, inspected, change.bucket, tracks, change.fitting))
    ]
    return tuple(wins + _whole(samples, inspected, settled, bucket, tracks, as_they_are))


def _changes(
    lost: Sequence[Sample], probes: Probes, bucket: Bucket, tracks: Sequence[Track], fitting: FitOptions
) -> Iterator[_Change]:
    picture = bucket.picture
    if picture is None:
        sounds = [min(_seconds(sample, probes, tracks)) for sample in lost]
        for seconds in _few({int(length * 100) / 100 for length in sounds if length >= SHORTEST_SOUND}):
            yield _Change("audio_duration_seconds", seconds, Bucket(seconds=seconds), fitting)
        return
    if not fitting.auto_scale:
        step = FRAMES_PER_STEP * max(track.temporal_scale for track in tracks)
        lengths = {(min(_frames(sample, probes, tracks)) - 1) // step * step + 1 for sample in lost}
        for frames in _few({length for length in lengths if length >= FEWEST_FRAMES}):
            shorter = Bucket.of(picture.model_copy(update={"frames": frames}))
            yield _Change("number_of_frames", frames, shorter, fitting)
        yield _Change("auto_scale_input", True, bucket, fitting.model_copy(update={"auto_scale": True}))


def _whole(
    samples: Sequence[Sample],
    inspected: Inspected,
    settled: Fitted,
    bucket: Bucket,
    tracks: tuple[Track, ...],
    fitting: FitOptions,
) -> list[Suggestion]:
    """Suggestion to use clips whole where no scene is long enough."""
    kept = {one.name for one in settled.samples} | {one.name.rpartition("#s")[0] for one in settled.samples}
    skipped = {one.name for one in settled.skipped}
    gone = [sample for sample in samples if sample.name not in kept | skipped]
    if not gone or not _count(gone, inspected, bucket, tracks, fitting):
        return []
    keeps = _count(samples, inspected, bucket, tracks, fitting)
    return [Suggestion(parameter="split_input_into_scenes", value=False, keeps=keeps, of=len(samples))]


def _count(
    samples: Sequence[Sample], inspected: Inspected, bucket: Bucket, tracks: tuple[Track, ...], fitting: FitOptions
) -> int:
    try:
        return len(settle(samples, inspected, bucket, tracks, fitting).samples)
    except NothingLeft:
        return 0


def _few(values: set[float]) -> list[float]:
    """The largest values, and the one that wins back most."""
    ordered = sorted(values, reverse=True)
    return ordered if len(ordered) <= MOST_VALUES else [*ordered[: MOST_VALUES - 1], ordered[-1]]


def _frames(sample: Sample, probes: Probes, tracks: Sequence[Track]) -> Iterator[int]:
    if sample.scene:
        yield sample.scene.end - sample.scene.start
        return
    for track in tracks:
        video = probes[sample.files[track.role].sha256].video
        if track.modality == "video" and track.role != "mask" and video:
            yield video.frames


def _seconds(sample: Sample, probes: Probes, tracks: Sequence[Track]) -> Iterator[float]:
    for track in tracks:
        if sound := probes[sample.files[track.role].sha256].audio:
            yield sound.seconds

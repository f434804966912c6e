"""Suggestions: one parameter of the request that, if changed, would win back skipped samples."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from schemas.media import Bucket, Sample
from schemas.plan import Track
from schemas.rejections import NothingLeft
from schemas.report import Suggestion
from schemas.wording import hundredths
from tasks.dataset.order import Order
from tasks.dataset.rules import settle
from tasks.dataset.scenes import Inspected, split
from tasks.manifests import Fitted
from tasks.media.probe import Probes

MOST_VALUES = 5  # of one parameter: each clip of a large set may have a length of its own


class _Change(NamedTuple):
    """One parameter with another value, and the order that follows."""

    parameter: str
    value: int | float | bool
    order: Order


def won_back(samples: Sequence[Sample], inspected: Inspected, settled: Fitted, order: Order) -> tuple[Suggestion, ...]:
    """Try each change on the skipped samples; no file is touched. Kept samples stay kept: clips need less, not more."""
    if not settled.skipped:
        return ()
    names = {one.name for one in settled.skipped}
    lost = tuple(sample for sample in split(samples, inspected, order) if sample.name in names)
    kept, of = len(settled.samples), len(settled.samples) + len(settled.skipped)
    as_they_are = _with(order, split_above_seconds=None)  # scenes are not split again
    wins = [
        Suggestion(parameter=change.parameter, value=change.value, keeps=kept + gained, of=of)
        for change in _changes(lost, inspected.probes, as_they_are)
        if (gained := _count(lost, inspected, change.order))
    ]
    return tuple(wins + _whole(samples, inspected, settled, as_they_are))


def _changes(lost: Sequence[Sample], probes: Probes, order: Order) -> Iterator[_Change]:
    """Changes that the request would accept."""
    picture, fitting = order.bucket.picture, order.fitting
    if picture is None:
        sounds = {hundredths(min(_seconds(sample, probes, order.tracks))) for sample in lost}
        for seconds in _few({length for length in sounds if length >= fitting.least_seconds}):
            yield _Change("audio_duration_seconds", seconds, order._replace(bucket=Bucket(seconds=seconds)))
        return
    if not fitting.auto_scale:
        lengths = [min(_frames(sample, probes, order.tracks)) for sample in lost]
        fits = (max((count for count in fitting.frame_counts if count <= length), default=0) for length in lengths)
        for frames in _few({count for count in fits if count}):
            shorter = Bucket.of(picture.model_copy(update={"frames": frames}))
            yield _Change("number_of_frames", frames, order._replace(bucket=shorter))
        yield _Change("auto_scale_input", True, _with(order, auto_scale=True))


def _with(order: Order, **options: Any) -> Order:
    return order._replace(fitting=order.fitting.model_copy(update=options))


def _whole(samples: Sequence[Sample], inspected: Inspected, settled: Fitted, order: Order) -> list[Suggestion]:
    """Suggestion to use clips whole where no scene is long enough."""
    kept = {one.name for one in settled.samples} | {one.name.rpartition("#s")[0] for one in settled.samples}
    skipped = {one.name for one in settled.skipped}
    gone = [sample for sample in samples if sample.name not in kept | skipped]
    if not gone or not _count(gone, inspected, order):
        return []
    keeps = _count(samples, inspected, order)
    return [Suggestion(parameter="split_input_into_scenes", value=False, keeps=keeps, of=len(samples))]


def _count(samples: Sequence[Sample], inspected: Inspected, order: Order) -> int:
    try:
        return len(settle(samples, inspected, order).samples)
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

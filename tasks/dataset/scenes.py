"""Long clips split at their cuts: each scene that is long enough becomes a sample of its own.

Documented in docs/media-rules.md, reading 17.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from schemas.media import Frozen, MediaFile, Sample, SceneRange
from tasks.dataset.order import Order
from tasks.media.probe import Probes, VideoProbe, frame_times
from tasks.media.workers import each
from tasks.storage.memo import remembered
from tasks.storage.store import store

VERSION = 2  # of what scene detection finds
LOOKED_AT = (240, 136)  # pixels; enough for a cut, 40 times less work than 1080p
SHORTEST = 5  # frames, what the detector looks at together; a larger bound would leave cuts inside of scenes


class Inspected(NamedTuple):
    """Result of an inspection, by content hash: all that the rules need."""

    probes: Probes
    scenes: Mapping[str, tuple[SceneRange, ...]]  # of clips that are split


class Scenes(Frozen):
    """The scenes of one clip; none where the clip has no cut."""

    ranges: tuple[SceneRange, ...]


def find_scenes(samples: Sequence[Sample], probes: Probes, order: Order) -> dict[str, tuple[SceneRange, ...]]:
    """Scenes of every clip that is long enough to be split, by content hash: the clips are decoded once."""
    targets = {sample.files["target"].sha256: sample for sample in samples if _is_split(sample, probes, order)}

    def look(sample: Sample) -> tuple[SceneRange, ...]:
        file = sample.files["target"]
        video = probes[file.sha256].video
        assert video
        return _scenes(file, video).ranges

    return dict(zip(targets, each(look, tuple(targets.values())), strict=True))


def split(samples: Sequence[Sample], inspected: Inspected, order: Order) -> list[Sample]:
    """The samples, with each long one replaced by its scenes."""
    found: list[Sample] = []
    for sample in samples:
        whole = not _is_split(sample, inspected.probes, order)
        found += [sample] if whole else _as_samples(sample, inspected.scenes[sample.files["target"].sha256])
    return found


def _is_split(sample: Sample, probes: Probes, order: Order) -> bool:
    """Whether a sample is split. One of several files is left whole: cut at different frames, they would not match."""
    video = probes[sample.files["target"].sha256].video
    threshold = order.fitting.split_above_seconds
    if threshold is None or order.bucket.picture is None or video is None or len(sample.files) > 1:
        return False
    return video.seconds > threshold


def detect_scenes(path: Path, video: VideoProbe) -> Scenes:
    """Detect the cuts of a clip.

    Frames come through our own pipe: OpenCV shows interlaced clips as black and would find no cut in them.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode  # noqa: PLC0415 - 0.5 s that only long clips cost

    from tasks.media.ffmpeg import sample_frames  # noqa: PLC0415

    detector = AdaptiveDetector(min_scene_len=SHORTEST)
    cuts: list[int] = []
    count = 0
    for frame in sample_frames(path, *LOOKED_AT, video.frames):
        cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(count, float(video.fps)), frame)]
        count += 1
    edges = [0, *cuts, min(count, video.frames)]
    return Scenes(ranges=_shown(edges, video, frame_times(path)) if cuts else ())


def _shown(edges: Sequence[int], video: VideoProbe, times: Sequence[float]) -> tuple[SceneRange, ...]:
    """Scenes with the times of their frames: the file's own, else from the frame rate, if that does not vary."""

    def at(frame: int) -> float:
        return times[frame] if frame < len(times) else video.start + frame / video.fps

    def seek(frame: int) -> float:
        return round((at(frame - 1) + at(frame)) / 2, 6) if frame else 0.0

    def end(frame: int) -> float:
        return at(frame - 1) + 1 / video.fps if frame == edges[-1] else at(frame)

    return tuple(
        SceneRange(start=a, end=b, start_seconds=at(a), seconds=end(b) - at(a), seek_seconds=seek(a))
        for a, b in pairwise(edges)
    )


def _scenes(file: MediaFile, video: VideoProbe) -> Scenes:
    def find() -> Scenes:
        with store().media(file.sha256) as path:
            return detect_scenes(path, video)

    return remembered(f"scenes/v{VERSION}/{file.sha256}", Scenes, find)


def _as_samples(sample: Sample, scenes: Sequence[SceneRange]) -> list[Sample]:
    named = [(f"{sample.name}#s{number:03d}", scene) for number, scene in enumerate(scenes, 1)]
    return [sample.model_copy(update={"name": name, "scene": scene}) for name, scene in named] or [sample]

"""Inspection: each file of the samples is probed once; files that cannot play their role are refused together."""

from collections.abc import Iterable, Sequence

from schemas.media import MediaFile, Modality, Role, Sample
from schemas.plan import Track
from schemas.rejections import (
    TRAINING_DATA,
    Loc,
    SilentClip,
    UnreadableClip,
    UnsupportedFile,
)
from tasks.dataset.order import Order
from tasks.dataset.scenes import Inspected, find_scenes
from tasks.media.probe import VERSION, Probe, probe
from tasks.media.workers import each
from tasks.storage.memo import remembered
from tasks.storage.store import store

VIDEO_FORMATS = (".mp4", ".mov", ".mkv", ".avi")


def modalities_of(role: Role, tracks: Iterable[Track]) -> tuple[Modality, ...]:
    """The modalities needed of a file that plays this role."""
    return tuple(track.modality for track in tracks if track.role == role)


def look(
    file: MediaFile, role: Role, wanted: Sequence[Modality], sound_remedy: str, where: Loc = TRAINING_DATA
) -> Probe:
    """Probe of a file, if the file can play its role; `sound_remedy` is for one that lacks an audio track.

    Raises:
        UnreadableClip: it is no media file, or has no picture where one is needed.
        UnsupportedFile: it is an image where a video is needed.
        SilentClip: it has no audio track where one is needed.
    """
    kind: Modality = "video" if "video" in wanted else "audio"
    try:
        found = remembered(f"probes/v{VERSION}/{file.sha256}", Probe, lambda: _probe(file, kind))
    except UnreadableClip as error:
        raise UnreadableClip(file.name, kind=kind, reason=error.reason, where=where) from error
    if "video" in wanted and (found.video is None or not found.video.frames):
        raise UnreadableClip(file.name, kind="video", reason="it has no picture, or one that is too large", where=where)
    if "video" in wanted and role != "mask" and found.video and found.video.still:
        raise UnsupportedFile(file.name, "video", VIDEO_FORMATS, "it is an image", where=where)
    if "audio" in wanted and found.audio is None:
        raise SilentClip(file.name, role, sound_remedy, where=where)
    return found


def _probe(file: MediaFile, kind: Modality) -> Probe:
    with store().media(file.sha256) as path:
        return probe(path, file.name, kind)


def inspect(samples: Sequence[Sample], order: Order) -> Inspected:
    """Probe each file that a track needs, once, and look for scenes where clips are split.

    Raises:
        Rejections, UnreadableClip, UnsupportedFile, SilentClip: all files that cannot play their role, together.
    """
    roles = sorted({track.role for track in order.tracks})
    work = [(sample.files[role], role) for sample in samples for role in roles]
    remedy = order.fitting.sound_remedy
    found = each(lambda item: look(item[0], item[1], modalities_of(item[1], order.tracks), remedy), work)
    probes = {file.sha256: probe for (file, _), probe in zip(work, found, strict=True)}
    return Inspected(probes, find_scenes(samples, probes, order))

"""Looks at the files of samples and refuses, all together, those that cannot be what they have to be."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from schemas.errors import StoreDamaged
from schemas.faults import refuse
from schemas.media import MediaFile, Modality, Role
from schemas.plan import Track
from schemas.rejections import (
    TRAINING_DATA,
    InputRejected,
    Loc,
    SilentClip,
    UnreadableClip,
    UnsupportedFile,
)
from schemas.settings import settings
from tasks.media.probe import VERSION, Probe, probe
from tasks.storage.memo import remembered
from tasks.storage.store import store

VIDEO_FORMATS = (".mp4", ".mov", ".mkv", ".avi")

Work = TypeVar("Work")
Done = TypeVar("Done")
Probes = Mapping[str, Probe]  # by content hash


def modalities_of(role: Role, tracks: Iterable[Track]) -> tuple[Modality, ...]:
    """What is needed of a file that plays this role."""
    return tuple(track.modality for track in tracks if track.role == role)


def look(file: MediaFile, role: Role, wanted: Sequence[Modality], where: Loc = TRAINING_DATA) -> Probe:
    """What a file holds, if it can play its role.

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
        raise SilentClip(file.name, role, where=where)
    return found


def each(
    work: Callable[[Work], Done], items: Sequence[Work], progress: Callable[[int, int], None] | None = None
) -> list[Done]:
    """Do the same for all, several at a time, in order.

    Raises:
        StoreDamaged: of all that were damaged, so that they are made anew together.
        InputRejected: all that were refused, together.
    """
    done: list[Done] = []
    faults: list[InputRejected] = []
    damages: list[str] = []
    with ThreadPoolExecutor(settings().media_workers, "media") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                try:
                    done.append(future.result())
                except InputRejected as fault:
                    faults.append(fault)
                except StoreDamaged as damage:
                    damages.append(str(damage))
                if progress:
                    progress(len(done) + len(faults) + len(damages), len(items))
        finally:
            pool.shutdown(cancel_futures=True)  # after a fault of ours or a missing program the rest is in vain
    if damages:
        raise StoreDamaged("; ".join(dict.fromkeys(damages)))
    if faults:
        refuse(faults)
    return done


def _probe(file: MediaFile, kind: Modality) -> Probe:
    with store().media(file.sha256) as path:
        return probe(path, file.name, kind)

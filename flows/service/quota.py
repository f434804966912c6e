"""Quotas: how much one key may keep uploaded, and how much of a body may therefore come."""

from typing import NamedTuple

from fastapi import HTTPException

from flows.service import owned
from flows.service.upload_register import Upload
from schemas.media import MediaFile
from schemas.settings import settings
from tasks.sources import upload_parts as parts


class Room(NamedTuple):
    """Bytes that may come, and the answer to a client that sends more."""

    size: int
    refusal: str

    def check(self, size: int) -> None:
        """Check that so many bytes may come.

        Raises:
            HTTPException: 413, it is more.
        """
        if size > self.size:
            raise HTTPException(413, self.refusal)


def room_for_file(owner: str, said: int | None) -> Room:
    """Room for one file; `said`: the size that the client announces."""
    return _room(owner, settings().max_download_bytes, said, replaced=0)


def room_for_part(upload: Upload, number: int, said: int | None) -> Room:
    """Room for one part: all parts together have the limit of one file."""
    come, replaced = parts.sizes(upload.id, number)
    return _room(upload.owner, settings().max_download_bytes - come + replaced, said, replaced=replaced)


def check(owner: str, size: int) -> None:
    """Check that a key may upload so much more; files that are no longer in the store do not count.

    Raises:
        HTTPException: 413, it may not.
    """
    _left(owner, size, replaced=0).check(size)


def own(owner: str, file: MediaFile) -> None:
    """Record who has uploaded a file that is in the store.

    Raises:
        HTTPException: 413, with what has come meanwhile it is more than one key may keep.
    """
    known = owned.owns(owner, file.sha256)
    owned.add(owner, file)
    if known:
        return
    try:
        check(owner, 0)
    except HTTPException:
        owned.drop(owner, file.sha256)
        raise


def check_part(upload: Upload, number: int) -> None:
    """Check that a part that has come may stay, else remove it. Others may have come meanwhile.

    Raises:
        HTTPException: 413, together they are too much.
    """
    try:
        _limit(settings().max_download_bytes).check(parts.sizes(upload.id, number)[0])
        check(upload.owner, 0)
    except HTTPException:
        parts.drop(upload.id, number)
        raise


def _room(owner: str, limit: int, said: int | None, *, replaced: int) -> Room:
    quota = _left(owner, limit if said is None else min(said, limit), replaced=replaced)
    return min(_limit(limit), quota, key=lambda room: room.size)


def _limit(size: int) -> Room:
    return Room(size, f"more than {settings().max_download_bytes} bytes are not allowed")


def _left(owner: str, wanted: int, *, replaced: int) -> Room:
    """Room that a key has left. Only where that is too little is the store asked, which takes its time."""
    most = settings().upload_quota_bytes + replaced
    used = owned.used(owner)
    if used + wanted > most:
        owned.forget_pruned(owner)
        used = owned.used(owner)
    refusal = (
        f"this key keeps {used} bytes of uploads, and LTX_FLOWS_UPLOAD_QUOTA_BYTES allows it "
        f"{settings().upload_quota_bytes}; ask whoever runs the service for more, or wait until unused files are pruned"
    )
    return Room(most - used, refusal)

"""Uploads in parts, which come in any order: kept in the store, where every process of the API sees them.

The bytes are `parts/<upload>/<number>-<etag>`. The list of parts and their sizes is in the ledger's database, because
it is asked for at each of thousands of parts.
"""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, delete, func, select

from schemas.errors import StoreUnavailable
from schemas.media import MediaFile
from schemas.settings import settings
from tasks.ledger.database import ledger
from tasks.ledger.rows import put_row
from tasks.storage.claims import Claims
from tasks.storage.folder import CHUNK, Stored
from tasks.storage.leftovers import left
from tasks.storage.store import file_sha256, keep, store, temporary_folder

PARTS = Table(
    "parts",
    MetaData(),
    Column("upload_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("etag", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
MOST_PARTS = 10_000  # S3's limit; fal's clients send parts of 10 MiB
DAY = 24 * 3600.0
ROOM = "parts"


class Part(NamedTuple):
    """One part that has come."""

    number: int
    etag: str
    size: int


def begin(upload_id: str) -> None:
    """Begin to expect the parts of an upload."""
    store().write_text("{}", _mark(upload_id))


def check_begun(upload_id: str) -> None:
    """Check that parts of an upload are expected.

    Raises:
        FileNotFoundError: there is no such upload, it was abandoned, or it is complete. So do all that add or read one.
    """
    if store().size(_mark(upload_id)) is None:
        raise FileNotFoundError(_mark(upload_id))


def come(upload_id: str) -> dict[int, Part]:
    """The parts that have come, by their numbers."""
    with ledger() as connection:
        rows = connection.execute(select(PARTS).where(PARTS.c.upload_id == upload_id)).mappings().all()
    return {row["number"]: Part(row["number"], row["etag"], row["size"]) for row in rows}


def sizes(upload_id: str, number: int) -> tuple[int, int]:
    """Bytes of all parts that have come, and of the part with this number."""
    mine = select(func.coalesce(func.sum(PARTS.c.size), 0)).where(PARTS.c.upload_id == upload_id)
    with ledger() as connection:
        everything = connection.execute(mine).scalar_one()
        return int(everything), int(connection.execute(mine.where(PARTS.c.number == number)).scalar_one())


def add(path: Path, upload_id: str, number: int) -> str:
    """Move a file into the store as a part, replacing an earlier one of its number; return its etag."""
    part = Part(number, file_sha256(path), path.stat().st_size)
    store().place.take(path, _address(upload_id, number, part.etag))
    try:
        check_begun(upload_id)
    except FileNotFoundError:  # it was completed while this one came
        store().place.remove_all(_folder(upload_id))
        raise
    earlier = _note(upload_id, part)
    if earlier not in (part.etag, None):
        store().remove(_address(upload_id, number, earlier))
    return part.etag


def drop(upload_id: str, number: int) -> None:
    """Remove a part that has come."""
    this = (PARTS.c.upload_id == upload_id, PARTS.c.number == number)
    with ledger() as connection:
        etag = connection.scalar(select(PARTS.c.etag).where(*this))
        connection.execute(delete(PARTS).where(*this))
    if etag is not None:
        store().remove(_address(upload_id, number, etag))


@contextmanager
def alone(upload_id: str) -> Iterator[None]:
    """Lock an upload: nobody else on this machine joins its parts meanwhile, and it does not count as abandoned.

    Two machines may do so at once: then both read the same parts, and keep the same file.
    """
    name = f"upload {upload_id}"
    with Claims() as claims:
        while not claims.take([name]):
            claims.wait_for(name)
        check_begun(upload_id)
        store().write_text("{}", f"{_folder(upload_id)}/joining")
        yield


def missing(upload_id: str, etags: dict[int, str]) -> list[int]:
    """Numbers of the parts 1, 2, ... to the last one that have not come, or not with this etag."""
    there = {number: part.etag for number, part in come(upload_id).items()}
    return [n for n in range(1, max(etags) + 1) if n not in etags or there.get(n) != etags[n]]


def keep_joined(upload_id: str, name: str, etags: dict[int, str]) -> MediaFile:
    """Join the parts, a piece at a time, and put the file into the store."""
    digest, there = hashlib.sha256(), come(upload_id)
    with temporary_folder() as folder:
        whole = folder / "upload"
        with whole.open("wb") as file:
            for number in sorted(etags):
                if number not in there:
                    raise FileNotFoundError(_address(upload_id, number, etags[number]))
                for piece in _read(upload_id, there[number], folder):
                    digest.update(piece)
                    file.write(piece)
        return keep(whole, name, digest.hexdigest())


def remove(upload_id: str) -> None:
    """Remove an upload's parts; first of all, mark that none are expected any more."""
    store().remove(_mark(upload_id))
    store().place.remove_all(_folder(upload_id))


def remove_abandoned() -> list[Stored]:
    """Remove the parts of uploads to which nothing has come for a day; return the files removed."""
    for folder in left(settings().home_folder / "uploads", DAY):  # where parts were kept before
        shutil.rmtree(folder, ignore_errors=True)
    uploads: dict[str, list[Stored]] = defaultdict(list)
    for file in store().place.files(ROOM):
        uploads[file.address.split("/")[1]].append(file)
    abandoned = {name: files for name, files in uploads.items() if min(file.age for file in files) > DAY}
    for upload_id in abandoned:
        remove(upload_id)
    return [file for files in abandoned.values() for file in files]


def forget_abandoned() -> None:
    """Remove abandoned parts, and their rows in the database."""
    remove_abandoned()
    before = datetime.now(UTC) - timedelta(seconds=DAY)
    silent = select(PARTS.c.upload_id).group_by(PARTS.c.upload_id).having(func.max(PARTS.c.at) < before)
    with ledger() as connection:
        connection.execute(delete(PARTS).where(PARTS.c.upload_id.in_(silent)))


def _read(upload_id: str, part: Part, folder: Path) -> Iterator[bytes]:
    """The bytes of a part, piece by piece; a part that is cut off is refused."""
    place, size = store().place, 0
    path = place.fetch(_address(upload_id, part.number, part.etag), folder)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            size += len(piece)
            yield piece
    if size != part.size:
        raise StoreUnavailable(f"{place.url} gave {size} of the {part.size} bytes of a part; complete the upload again")
    if not place.is_local:
        path.unlink()


def _note(upload_id: str, part: Part) -> str | None:
    """Record that a part has come; return the etag of the earlier part with its number."""
    row = {"upload_id": upload_id, **part._asdict(), "at": datetime.now(UTC)}
    with ledger() as connection:
        this = (PARTS.c.upload_id == upload_id, PARTS.c.number == part.number)
        earlier: str | None = connection.scalar(select(PARTS.c.etag).where(*this))
        put_row(connection, PARTS, row)
    return earlier


def _folder(upload_id: str) -> str:
    return f"{ROOM}/{upload_id}"


def _mark(upload_id: str) -> str:
    return f"{_folder(upload_id)}/begun"


def _address(upload_id: str, number: int, etag: str) -> str:
    return f"{_folder(upload_id)}/{number}-{etag}"

"""Owners of uploaded content: only they may train on it, and its size counts for each of them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    MetaData,
    String,
    Table,
    delete,
    func,
    select,
    update,
)

from flows.service.upload_register import UPLOADS, Upload
from schemas.media import MediaFile
from schemas.rejections import DownloadRejected, Loc
from tasks.ledger.database import ledger
from tasks.ledger.rows import put_row
from tasks.sources.fetch import name_of
from tasks.sources.upload_parts import PARTS
from tasks.sources.upload_url import content_of
from tasks.storage.store import media_address, store

OWNED = Table(
    "owned",
    MetaData(),
    Column("owner", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
ASKED_AT_ONCE = 8


def check_owned(url: str, where: Loc, owner: str) -> None:
    """Refuse a content address unless its owner asks: an address by content is as good as the content.

    Raises:
        DownloadRejected: the same, whether anybody has uploaded it or not.
    """
    sha256 = content_of(url)
    if sha256 is not None and not owns(owner, sha256):
        reason = "nothing was uploaded with this key under this address"
        raise DownloadRejected(name_of(url), reason, where=where)


def owns(owner: str, sha256: str) -> bool:
    """Whether content was uploaded with this key."""
    with ledger() as connection:
        return connection.execute(select(OWNED.c.size).where(*_this(owner, sha256))).first() is not None


def add(owner: str, file: MediaFile) -> None:
    """Record who has uploaded a file."""
    with ledger() as connection:
        _add(connection, owner, file)


def drop(owner: str, sha256: str) -> None:
    """Remove the record of who has uploaded a file."""
    with ledger() as connection:
        connection.execute(delete(OWNED).where(*_this(owner, sha256)))


def complete(upload: Upload, file: MediaFile) -> None:
    """Record the file made of parts, in one step: nobody sees it counted twice, or not at all."""
    with ledger() as connection:
        _add(connection, upload.owner, file)
        connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload.id).values(sha256=file.sha256))
        connection.execute(delete(PARTS).where(PARTS.c.upload_id == upload.id))


def used(owner: str) -> int:
    """Bytes of all files that a key has uploaded, and of the parts of its incomplete uploads."""
    files = select(func.coalesce(func.sum(OWNED.c.size), 0)).where(OWNED.c.owner == owner)
    parts = select(func.coalesce(func.sum(PARTS.c.size), 0)).join(UPLOADS, UPLOADS.c.id == PARTS.c.upload_id)
    with ledger() as connection:
        both = (connection.execute(each).scalar_one() for each in (files, parts.where(UPLOADS.c.owner == owner)))
        return sum(map(int, both))


def forget_pruned(owner: str) -> None:
    """Remove records of files that are not in the store any more; update the sizes of the others."""
    with ledger() as connection:
        rows = connection.execute(select(OWNED).where(OWNED.c.owner == owner)).mappings().all()
    with ThreadPoolExecutor(ASKED_AT_ONCE, "owned") as pool:
        sizes = list(pool.map(lambda row: store().size(media_address(row["sha256"])), rows))
    with ledger() as connection:
        for row, size in zip(rows, sizes, strict=True):
            same = (*_this(owner, row["sha256"]), OWNED.c.at == row["at"])  # else it has come again meanwhile
            if size is None:
                connection.execute(delete(OWNED).where(*same))
            elif size != row["size"]:
                connection.execute(update(OWNED).where(*same).values(size=size))


def _add(connection: Connection, owner: str, file: MediaFile) -> None:
    row: dict[str, Any] = {"owner": owner, **file.model_dump(include={"sha256", "name", "size"})}
    put_row(connection, OWNED, row | {"at": datetime.now(UTC)})


def _this(owner: str, sha256: str) -> tuple[ColumnElement[bool], ...]:
    return OWNED.c.owner == owner, OWNED.c.sha256 == sha256

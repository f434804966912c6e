"""Register of upload addresses, given out before their content is known; the ledger's database then has its hash."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import Column, DateTime, MetaData, String, Table, delete, insert, select, update

from schemas.media import MediaFile
from tasks.ledger.database import ledger
from tasks.sources import upload_parts as parts
from tasks.sources.upload_url import uploaded_url

UPLOADS = Table(
    "uploads",
    MetaData(),
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("sha256", String(64)),
    Column("at", DateTime(timezone=True), nullable=False),
)
UNFINISHED_SECONDS = 7 * 24 * 3600  # what comes slowly may take so long
LONGEST_NAME = 255
_ID = re.compile("[0-9a-f]{32}")
_TOLD = re.compile(rf"https?://[^/?#]+/uploads/({_ID.pattern})/[^/?#]+")


class Upload(BaseModel):
    """One upload; without `sha256` the upload is not complete."""

    id: str
    owner: str
    name: str
    sha256: str | None = None

    @property
    def path(self) -> str:
        return f"/uploads/{self.id}/{quote(self.name)}"

    @property
    def content_url(self) -> str | None:
        """The address by content, which a run reads."""
        return uploaded_url(MediaFile(name=self.name, sha256=self.sha256, size=0)) if self.sha256 else None


def announce(owner: str, name: str) -> Upload:
    """Make a new upload address."""
    upload = Upload(id=uuid4().hex, owner=owner, name=plain_name(name))
    with ledger() as connection:
        connection.execute(insert(UPLOADS).values(**upload.model_dump(), at=datetime.now(UTC)))
    return upload


def find(upload_id: str) -> Upload | None:
    """One upload, or None."""
    with ledger() as connection:
        row = connection.execute(select(UPLOADS).where(UPLOADS.c.id == upload_id)).mappings().first()
    return Upload(**row) if row else None


def finish(upload_id: str, sha256: str) -> None:
    """Record the content of an upload; if more comes later, the last counts."""
    with ledger() as connection:
        connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload_id).values(sha256=sha256))


def forget_abandoned() -> None:
    """Remove parts of uploads that nobody goes on with, and addresses without content."""
    parts.forget_abandoned()
    before = datetime.now(UTC) - timedelta(seconds=UNFINISHED_SECONDS)
    with ledger() as connection:
        connection.execute(delete(UPLOADS).where(UPLOADS.c.sha256.is_(None), UPLOADS.c.at < before))


def is_id(text: str) -> bool:
    """Whether a text can be the id of an upload; databases refuse some texts that cannot."""
    return _ID.fullmatch(text) is not None


def told_id(url: str) -> str | None:
    """The upload id in a URL that may be an address of ours."""
    found = _TOLD.fullmatch(url)
    return found[1] if found else None


def plain_name(name: str) -> str:
    """A client's file name, made safe for addresses and messages."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(each for each in last if each.isprintable()).lstrip(". ")[-LONGEST_NAME:] or "file"

"""The requests of the API, kept in the ledger's database: what was asked, by whom, and how it ended."""

import json
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from tasks.ledger import ledger

REQUESTS = Table(
    "requests",
    MetaData(),
    Column("id", String(36), primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("idempotency_key", String(256)),
    Column("webhook", Text),
    Column("origin", Text, nullable=False),
    Column("run_id", String(36)),
    Column("submitted_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("code", Integer),
    Column("answer", Text),
    Column("webhook_tries", Integer, nullable=False, default=0),
    Column("webhook_state", Text),
)

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


class LogLine(BaseModel):
    """As fal's clients read it."""

    message: str
    level: str
    source: str = "RUN"
    timestamp: str


class Entry(BaseModel):
    """One request. What stands below `submitted_at` changes while it goes."""

    id: str
    endpoint: str
    body: dict[str, Any]
    owner: str
    idempotency_key: str | None = None
    webhook: str | None = None
    origin: str  # the address under which the client reached us: links in its answer begin with it
    submitted_at: datetime
    run_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    code: int | None = None  # of the answer, as HTTP has them
    answer: dict[str, Any] | None = None  # the result, or the body of the error
    webhook_tries: int = 0
    webhook_state: str | None = None  # None: nothing to deliver, or not yet
    queue_position: int = 0
    state: str = "Scheduled"  # Prefect's name for it
    logs: list[LogLine] = []

    @property
    def status(self) -> Status:
        if self.ended_at:
            return "COMPLETED"
        return "IN_PROGRESS" if self.started_at else "IN_QUEUE"

    @property
    def seconds(self) -> float | None:
        """What it took, from its start to its end."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None


def entry_of(endpoint: str, body: dict[str, Any], **known: Any) -> Entry:
    """A new request; `known`: owner, origin, webhook, idempotency_key."""
    return Entry(id=str(uuid4()), endpoint=endpoint, body=body, submitted_at=datetime.now(UTC), **known)


def add(entry: Entry) -> tuple[Entry, bool]:
    """Write a request down, or find the one that came with the same idempotency key; whether it is new."""
    columns = ("id", "endpoint", "owner", "idempotency_key", "webhook", "origin", "submitted_at")
    row = {name: getattr(entry, name) for name in columns} | {"body": json.dumps(entry.body)}
    try:
        with ledger() as connection:
            connection.execute(insert(REQUESTS).values(row))
    except IntegrityError:
        with ledger() as connection:
            mine, key = REQUESTS.c.owner == entry.owner, REQUESTS.c.idempotency_key == entry.idempotency_key
            same = select(REQUESTS).where(mine, key)
            return _entry(connection.execute(same).mappings().one()), False
    return entry, True


def change(entry_id: str, **values: Any) -> None:
    """Write down what has become of a request."""
    if "answer" in values:
        values["answer"] = json.dumps(values["answer"])
    with ledger() as connection:
        connection.execute(update(REQUESTS).where(REQUESTS.c.id == entry_id).values(**values))


def get(entry_id: str) -> Entry | None:
    """One request, or None."""
    if "\0" in entry_id:  # PostgreSQL refuses to look for it
        return None
    with ledger() as connection:
        row = connection.execute(select(REQUESTS).where(REQUESTS.c.id == entry_id)).mappings().first()
    return _entry(row) if row else None


def unsettled() -> list[Entry]:
    """Requests that have not ended, and those whose webhook has not been heard; oldest first."""
    open_ones = REQUESTS.c.ended_at.is_(None) | (REQUESTS.c.webhook_state == PENDING)
    with ledger() as connection:
        rows = connection.execute(select(REQUESTS).where(open_ones).order_by(REQUESTS.c.submitted_at)).mappings().all()
    return [_entry(row) for row in rows]


def newest(owner: str, limit: int) -> list[Entry]:
    """The latest requests of an owner."""
    mine = select(REQUESTS).where(REQUESTS.c.owner == owner).order_by(REQUESTS.c.submitted_at.desc()).limit(limit)
    with ledger() as connection:
        return [_entry(row) for row in connection.execute(mine).mappings().all()]


PENDING = "pending"  # of a webhook: still to be delivered


def _entry(row: RowMapping) -> Entry:
    fields = dict(row)
    for name in ("body", "answer"):
        fields[name] = json.loads(fields[name]) if fields[name] is not None else None
    for name in ("submitted_at", "started_at", "ended_at"):
        if fields[name] is not None and fields[name].tzinfo is None:  # SQLite keeps no zones
            fields[name] = fields[name].replace(tzinfo=UTC)
    return Entry(**fields)

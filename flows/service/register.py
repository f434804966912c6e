"""Register of the API's requests, in the ledger's database: what was asked, by whom, and how it ended."""

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
    Select,
    String,
    Table,
    Text,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from flows.hosting.queues import QueuePriority
from tasks.ledger.database import ledger

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
    Column("webhook_due", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("start_by", DateTime(timezone=True)),
    Column("priority", String(8), nullable=False, default="normal"),
)
TIMES = ("submitted_at", "started_at", "ended_at", "webhook_due", "cancelled_at", "start_by")

CHANGING = (
    "run_id", "started_at", "ended_at", "code", "answer", "webhook_tries", "webhook_state", "webhook_due",
    "cancelled_at",
)  # fmt: skip

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


class LogLine(BaseModel):
    """As fal's clients read it."""

    message: str
    level: str
    source: str = "RUN"
    timestamp: str


class Entry(BaseModel):
    """One request. The fields below `submitted_at` change while the request goes."""

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
    webhook_due: datetime | None = None
    cancelled_at: datetime | None = None  # when its client asked for its end
    start_by: datetime | None = None  # its client does not want it if it begins later
    priority: QueuePriority = "normal"
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
        """Seconds from the request's start to its end."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None


def entry_of(endpoint: str, body: dict[str, Any], **known: Any) -> Entry:
    """An entry for a new request; `known`: owner, origin, webhook, idempotency_key, start_by, priority."""
    return Entry(id=str(uuid4()), endpoint=endpoint, body=body, submitted_at=datetime.now(UTC), **known)


def add(entry: Entry) -> tuple[Entry, bool]:
    """Record a request, or find the one with the same idempotency key; True where the request is new."""
    columns = (
        "id",
        "endpoint",
        "owner",
        "idempotency_key",
        "webhook",
        "origin",
        "submitted_at",
        "start_by",
        "priority",
    )
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
    """Update the fields of a request."""
    if "answer" in values:
        values["answer"] = json.dumps(values["answer"])
    with ledger() as connection:
        connection.execute(update(REQUESTS).where(REQUESTS.c.id == entry_id).values(**values))


def note_run(entry_id: str, run_id: str) -> bool:
    """Record the run of a request, unless the request has ended meanwhile; False where it had."""
    return _change_open(entry_id, run_id=run_id)


def note_cancelled(entry_id: str) -> bool:
    """Record that a client asked for the end of a request; False where it had ended."""
    return _change_open(entry_id, cancelled_at=datetime.now(UTC))


def end(entry: Entry, code: int, answer: dict[str, Any]) -> bool:
    """Record the ending of a request; False where another process has done so."""
    return _change_open(entry.id, **_ended(entry, code, answer))


def revise(entry: Entry, answer: dict[str, Any]) -> bool:
    """Record the result of a request that had failed and was let go on; False where the result is known."""
    values = _ended(entry, 200, answer) | {"webhook_tries": 0}
    with ledger() as connection:
        failed = (REQUESTS.c.id == entry.id) & (REQUESTS.c.code != 200)
        return bool(connection.execute(update(REQUESTS).where(failed).values(**values)).rowcount)


def _ended(entry: Entry, code: int, answer: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    told = {"webhook_state": PENDING, "webhook_due": now} if entry.webhook else {}
    return {"code": code, "answer": json.dumps(answer), "ended_at": now} | told


def _change_open(entry_id: str, **values: Any) -> bool:
    with ledger() as connection:
        still_open = (REQUESTS.c.id == entry_id) & REQUESTS.c.ended_at.is_(None)
        return bool(connection.execute(update(REQUESTS).where(still_open).values(**values)).rowcount)


def due_webhooks(limit: int) -> list[Entry]:
    """Requests whose webhooks are due."""
    due = REQUESTS.c.webhook_due.is_(None) | (REQUESTS.c.webhook_due <= datetime.now(UTC))
    waiting = select(REQUESTS).where((REQUESTS.c.webhook_state == PENDING) & due).order_by(REQUESTS.c.webhook_due)
    return entries(waiting.limit(limit))


def claim_webhook(entry: Entry, until: datetime) -> bool:
    """Claim a webhook for this process until a time; False where another process has."""
    same = REQUESTS.c.webhook_due == entry.webhook_due if entry.webhook_due else REQUESTS.c.webhook_due.is_(None)
    mine = (REQUESTS.c.id == entry.id) & (REQUESTS.c.webhook_state == PENDING) & same
    with ledger() as connection:
        return bool(connection.execute(update(REQUESTS).where(mine).values(webhook_due=until)).rowcount)


def note_webhook(entry: Entry, claimed: datetime) -> None:
    """Record the outcome of a webhook's try, unless there is something new to send since the claim."""
    values = {name: getattr(entry, name) for name in ("webhook_tries", "webhook_state", "webhook_due")}
    with ledger() as connection:
        same = (REQUESTS.c.id == entry.id) & (REQUESTS.c.webhook_due == claimed)
        connection.execute(update(REQUESTS).where(same).values(**values))


def get(entry_id: str) -> Entry | None:
    """One request, or None."""
    if "\0" in entry_id:  # PostgreSQL refuses to look for it
        return None
    with ledger() as connection:
        row = connection.execute(select(REQUESTS).where(REQUESTS.c.id == entry_id)).mappings().first()
    return _entry(row) if row else None


def unsettled() -> list[Entry]:
    """Requests that have not ended, oldest first."""
    return entries(select(REQUESTS).where(REQUESTS.c.ended_at.is_(None)).order_by(REQUESTS.c.submitted_at))


def failed_since(moment: datetime, limit: int) -> list[Entry]:
    """The latest requests that ended without a result and had a run, which somebody may let go on."""
    without = (REQUESTS.c.ended_at > moment) & (REQUESTS.c.code != 200) & REQUESTS.c.run_id.is_not(None)
    return entries(select(REQUESTS).where(without).order_by(REQUESTS.c.ended_at.desc()).limit(limit))


def entries(query: Select[Any]) -> list[Entry]:
    """The requests of a query over the register."""
    with ledger() as connection:
        return [_entry(row) for row in connection.execute(query).mappings().all()]


PENDING = "pending"  # of a webhook: still to be delivered


def _entry(row: RowMapping) -> Entry:
    fields = dict(row)
    for name in ("body", "answer"):
        fields[name] = json.loads(fields[name]) if fields[name] is not None else None
    for name in TIMES:
        if fields[name] is not None and fields[name].tzinfo is None:  # SQLite keeps no zones
            fields[name] = fields[name].replace(tzinfo=UTC)
    return Entry(**fields)

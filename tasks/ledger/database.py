"""The ledger: one row per successful run, exact decimals, safe to write twice and from many places at once."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from schemas.errors import DatabaseDamaged, LedgerUnavailable
from schemas.media import Frozen
from schemas.result import Billing
from schemas.settings import settings
from tasks.storage.durable import appearing
from tasks.storage.home import private_home
from tasks.storage.locks import locked

BILLS = Table(
    "bills",
    MetaData(),
    Column("run_id", String(64), primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("units", Integer, nullable=False),
    Column("usd_per_step", String(32), nullable=False),  # text: SQLite has no exact decimals
    Column("billed_at", DateTime(timezone=True), nullable=False),
)
GARBLED = ("database disk image is malformed", "file is not a database")
SECONDS_IN_LINE = 60.0  # for others that write: parts of uploads come forty at a time, and SQLite knows no turns
MIGRATING = 0x17C23  # of PostgreSQL's advisory lock: two processes never migrate at once


class Bill(Frozen):
    """One row of the ledger."""

    run_id: str
    endpoint: str
    billed_at: datetime
    billing: Billing


def record(run_id: str, endpoint: str, billing: Billing) -> None:
    """Write the row of a run; a row that is there already stays as it is."""
    row = {
        "run_id": run_id,
        "endpoint": endpoint,
        "units": billing.billable_units,
        "usd_per_step": str(billing.usd_per_step),
        "billed_at": datetime.now(UTC),
    }
    try:
        with ledger() as connection:
            connection.execute(insert(BILLS).values(row))
    except IntegrityError:  # a retry after the row was written and before the task's end was
        pass
    _mark_as_used()


def open_ledger() -> None:
    """See whether it can be read.

    Raises:
        LedgerUnavailable, DatabaseDamaged: it cannot.
    """
    with ledger() as connection:
        connection.execute(select(BILLS.c.run_id).limit(1)).first()


def bills() -> list[Bill]:
    """All rows, oldest first."""
    with ledger() as connection:
        rows = connection.execute(select(BILLS).order_by(BILLS.c.billed_at)).mappings().all()
    return [
        Bill(
            run_id=row["run_id"],
            endpoint=row["endpoint"],
            billed_at=row["billed_at"].replace(tzinfo=UTC) if row["billed_at"].tzinfo is None else row["billed_at"],
            billing=Billing.of(row["units"], Decimal(row["usd_per_step"])),
        )
        for row in rows
    ]


@contextmanager
def ledger() -> Iterator[Connection]:
    """A transaction on the ledger, whose tables are those of this version.

    Raises:
        LedgerUnavailable: it does not answer; it may pass.
        DatabaseDamaged: its file is cut or garbled, or is gone although it has held bills.
    """
    url = make_url(settings().ledger_url)
    if url.get_backend_name() == "sqlite":
        private_home()
        _check_file(url)
    waiting = {"timeout": SECONDS_IN_LINE} if url.get_backend_name() == "sqlite" else {}
    engine = create_engine(url, connect_args=waiting)
    try:
        with engine.connect() as connection:
            _migrate(connection)
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except DatabaseError as error:
        if url.get_backend_name() == "sqlite" and str(error.orig) in GARBLED:
            raise _damaged(Path(str(url.database)), str(error.orig)) from error
        if not isinstance(error, OperationalError):
            raise
        shown = url.render_as_string(hide_password=True)
        reason = (str(error.orig).splitlines() or [""])[0]
        raise LedgerUnavailable(f"the ledger {shown} does not answer ({reason}); start it, then run again") from error
    finally:
        engine.dispose()


def _check_file(url: URL) -> None:
    """An empty file is a new database to SQLite: a ledger that has held bills is never begun anew without a word."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    if _mark(path).exists() and not (path.exists() and path.stat().st_size):
        raise _damaged(path, "it is empty" if path.exists() else "it is gone")


def _mark(path: Path) -> Path:
    """A file beside the ledger that says that it holds bills."""
    return path.with_name(f"{path.name}.in-use")


def _mark_as_used() -> None:
    url = make_url(settings().ledger_url)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        mark = _mark(Path(url.database))
        if not mark.exists():
            with appearing(mark) as part:
                part.touch()


def _damaged(path: Path, reason: str) -> DatabaseDamaged:
    aside = f"mv {path} {path}.damaged; " if path.exists() else ""
    return DatabaseDamaged(
        f"the ledger {path} is damaged ({reason}): put a backup in its place; or, to begin a new one without the bills "
        f"and API requests that it held, type: {aside}rm -f {_mark(path)}"
    )


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "tasks:migrations")
    config.attributes["connection"] = connection
    newest = ScriptDirectory.from_config(config).get_current_head()
    if MigrationContext.configure(connection).get_current_revision() == newest:
        return
    with _migrating(connection):
        command.upgrade(config, "head")
        connection.commit()


@contextmanager
def _migrating(connection: Connection) -> Iterator[None]:
    """Alone on this database; the lock ends with its holder, however that ends."""
    connection.rollback()  # what was read outside the lock may be old
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
        yield
        return
    with locked(private_home() / "ledger.lock"):
        yield


def table(rows: list[Bill]) -> str:
    """The ledger to read: a line per run, then sums per endpoint and month."""
    lines = [f"{'billed at':20} {'endpoint':20} {'units':>6} {'USD':>9}  run"]
    for row in rows:
        usd = f"{row.billing.usd:.4f}"
        units = row.billing.billable_units
        lines.append(f"{row.billed_at:%Y-%m-%d %H:%M:%S}  {row.endpoint:20} {units:>6} {usd:>9}  {row.run_id}")
    for (month, endpoint), usd_sum in sorted(totals(rows).items()):
        lines.append(f"{month}              {endpoint:20} {'':>6} {usd_sum:>9.4f}")
    total = sum((row.billing.usd for row in rows), Decimal(0))
    return "\n".join([*lines, f"{len(rows)} runs, {total:.4f} USD"]) + "\n"


def totals(rows: list[Bill]) -> dict[tuple[str, str], Decimal]:
    """(month, endpoint) -> USD. Months are UTC's."""
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[f"{row.billed_at:%Y-%m}", row.endpoint] += row.billing.usd
    return dict(sums)


def as_csv(rows: list[Bill]) -> str:
    """The ledger for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["billed_at", "endpoint", "billable_units", "usd_per_step", "usd", "run_id"])
    for row in rows:
        bill = row.billing
        writer.writerow(
            [row.billed_at.isoformat(), row.endpoint, bill.billable_units, bill.usd_per_step, bill.usd, row.run_id]
        )
    return out.getvalue()

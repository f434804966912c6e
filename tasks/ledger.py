"""The ledger: one row per successful run, exact decimals, safe to write twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from schemas.media import Frozen
from schemas.result import Billing
from schemas.settings import settings

TABLES = MetaData()
BILLS = Table(
    "bills",
    TABLES,
    Column("run_id", String(64), primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("units", Integer, nullable=False),
    Column("usd_per_step", String(32), nullable=False),  # text: SQLite has no exact decimals
    Column("billed_at", DateTime(timezone=True), nullable=False),
)


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
        with _ledger() as connection:
            connection.execute(insert(BILLS).values(row))
    except IntegrityError:  # a retry after the row was written and before the task's end was
        return


def bills() -> list[Bill]:
    """All rows, oldest first."""
    with _ledger() as connection:
        rows = connection.execute(select(BILLS).order_by(BILLS.c.billed_at)).mappings().all()
    return [
        Bill(
            run_id=row["run_id"],
            endpoint=row["endpoint"],
            billed_at=row["billed_at"].replace(tzinfo=UTC),
            billing=Billing.of(row["units"], Decimal(row["usd_per_step"])),
        )
        for row in rows
    ]


@contextmanager
def _ledger() -> Iterator[Connection]:
    url = make_url(settings().ledger_url)
    if url.get_backend_name() == "sqlite" and url.database:
        settings().home_folder.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    try:
        TABLES.create_all(engine)
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def table(rows: list[Bill]) -> str:
    """The ledger to read: a line per run and the sum."""
    lines = [f"{'billed at':20} {'endpoint':20} {'units':>6} {'USD':>9}  run"]
    for row in rows:
        usd = f"{row.billing.usd:.4f}"
        units = row.billing.billable_units
        lines.append(f"{row.billed_at:%Y-%m-%d %H:%M:%S}  {row.endpoint:20} {units:>6} {usd:>9}  {row.run_id}")
    total = sum((row.billing.usd for row in rows), Decimal(0))
    return "\n".join([*lines, f"{len(rows)} runs, {total:.4f} USD"]) + "\n"

"""The bills: one row per successful run, exact decimals, safe to write twice and from many places at once."""

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from schemas.media import Frozen
from schemas.result import Billing
from tasks.ledger.database import ledger, mark_as_used

BILLS = Table(
    "bills",
    MetaData(),
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
    """Write the ledger row of a run; a row that is there already stays as it is."""
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
    mark_as_used()


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


def table(rows: list[Bill]) -> str:
    """The ledger as text: a line per run, then sums per endpoint and month."""
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
    """The ledger as CSV, for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["billed_at", "endpoint", "billable_units", "usd_per_step", "usd", "run_id"])
    for row in rows:
        bill = row.billing
        writer.writerow(
            [row.billed_at.isoformat(), row.endpoint, bill.billable_units, bill.usd_per_step, bill.usd, row.run_id]
        )
    return out.getvalue()


def open_ledger() -> None:
    """Check that the ledger can be read.

    Raises:
        LedgerUnavailable, DatabaseDamaged: it cannot.
    """
    with ledger() as connection:
        connection.execute(select(BILLS.c.run_id).limit(1)).first()

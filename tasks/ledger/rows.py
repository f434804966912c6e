"""Upserts into the ledger's database: rows that replace earlier ones, written by many processes at once."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def put_row(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Write a row, replacing the one with the same key, if there is one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=row))

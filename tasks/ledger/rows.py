"""Rows of the ledger's database that are written anew in the place of earlier ones, by many processes at once."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def put_row(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Write a row in the place of the one that has its key, if there is one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=row))

"""Secrets that this installation makes for itself: in the ledger's database, shared by all processes that serve it."""

import secrets
from functools import lru_cache

from sqlalchemy import Column, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from schemas.settings import settings
from tasks.ledger.database import ledger

SECRETS = Table(
    "secrets", MetaData(), Column("name", String(64), primary_key=True), Column("value", String(256), nullable=False)
)


def secret(name: str, size: int) -> bytes:
    """The secret of that name, made at its first use.

    Raises:
        LedgerUnavailable: the database does not answer.
    """
    return _secret(settings().ledger_url, name, size)


@lru_cache(maxsize=16)
def _secret(database: str, name: str, size: int) -> bytes:
    if (known := _read(name)) is None:
        try:
            with ledger() as connection:
                connection.execute(insert(SECRETS).values(name=name, value=_first(name, size).hex()))
        except IntegrityError:  # another process was faster
            pass
        known = _read(name)
        assert known is not None
    return known


def _read(name: str) -> bytes | None:
    with ledger() as connection:
        value = connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
    return bytes.fromhex(value) if value else None


def _first(name: str, size: int) -> bytes:
    """The secret that an earlier version kept in HOME, if any, else a new one: links signed with it stay good."""
    path = settings().home_folder / "service" / f"{name}.secret"
    former = path.read_bytes() if path.exists() else b""
    return former if len(former) == size else secrets.token_bytes(size)

"""The ledger's database: SQLite under HOME or PostgreSQL, its tables brought up to this version, damage noticed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, OperationalError

from schemas.errors import DatabaseDamaged, DatabaseUnusable, LedgerUnavailable
from schemas.settings import settings
from tasks.storage.durable import appearing
from tasks.storage.home import private_home
from tasks.storage.locks import locked

GARBLED = ("database disk image is malformed", "file is not a database")
SECONDS_IN_LINE = 60.0  # for others that write: parts of uploads come forty at a time, and SQLite knows no turns
MIGRATING = 0x17C23  # of PostgreSQL's advisory lock: two processes never migrate at once


@contextmanager
def ledger() -> Iterator[Connection]:
    """A transaction on the ledger, whose tables are those of this version.

    Raises:
        LedgerUnavailable: it does not answer; it may pass.
        DatabaseDamaged: its file is cut or garbled, or is gone although it has held bills.
        DatabaseUnusable: a newer version has used it, or its driver is not installed.
    """
    url = make_url(settings().ledger_url)
    if url.get_backend_name() == "sqlite":
        private_home()
        _check_file(url)
    waiting = {"timeout": SECONDS_IN_LINE} if url.get_backend_name() == "sqlite" else {}
    engine = _engine(url, waiting)
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


def _engine(url: URL, arguments: dict[str, float]) -> Engine:
    try:
        return create_engine(url, connect_args=arguments)
    except (ImportError, ArgumentError) as error:
        raise DatabaseUnusable(
            f"LTX_FLOWS_DATABASE_URL asks for {url.drivername}, which is not here ({error}); for PostgreSQL, type: "
            'pip install "ltx-flows[postgres]"'
        ) from error


def revision() -> str | None:
    """Version of the ledger's tables, once they are brought to ours."""
    with ledger() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _check_file(url: URL) -> None:
    """Refuse an empty file where the ledger has held bills: SQLite takes an empty file for a new database."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    if _mark(path).exists() and not (path.exists() and path.stat().st_size):
        raise _damaged(path, "it is empty" if path.exists() else "it is gone")


def _mark(path: Path) -> Path:
    """Path of the marker file beside the ledger, which says that the ledger holds bills."""
    return path.with_name(f"{path.name}.in-use")


def mark_as_used() -> None:
    """Note beside the ledger that it holds bills: an empty file in its place is damage from then on."""
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
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # a revision that this version does not know
            raise DatabaseUnusable(f"the ledger was used by a newer ltx-flows ({error}); update this one") from error
        connection.commit()


@contextmanager
def _migrating(connection: Connection) -> Iterator[None]:
    """Hold the migration lock of this database; the lock ends with its holder, however that ends."""
    connection.rollback()  # what was read outside the lock may be old
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
        yield
        return
    with locked(private_home() / "ledger.lock"):
        yield

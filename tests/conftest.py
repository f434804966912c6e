"""Every test gets a home of its own: no test sees another's store, ledger or settings."""

import gc
import logging
import os

import pytest
from sqlalchemy import create_engine, text

from schemas.settings import settings
from tests.support import postgres as postgres_server
from tests.support import s3 as s3_server
from tests.support.prefect_database import PrefectDatabase

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch here and in child processes: tests share the cores among processes


def pytest_collection_modifyitems(items):
    """Long files first: two processes then end at about the same time."""
    items.sort(key=lambda item: -sum(mark.kwargs["seconds"] for mark in item.iter_markers("slow")))


def pytest_collection_finish():
    """Look for garbage among what tests make, not among a million objects of imported modules, every time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("STORE", "OUTPUTS", "DATABASE_URL", "BASE_MODEL", "ALLOW_FILE_ROOT"):
        monkeypatch.setenv(f"LTX_FLOWS_{name}", "")  # so that it is removed afterwards, whoever has set it
        monkeypatch.delenv(f"LTX_FLOWS_{name}")
    monkeypatch.setenv("LTX_FLOWS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LTX_FLOWS_STORE_PATIENCE_SECONDS", "0")  # a test that wants some says so
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


@pytest.fixture
def setting(monkeypatch):
    """Change settings for one test, by their names."""

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"LTX_FLOWS_{name.upper()}", str(value))
        settings.cache_clear()

    return put


@pytest.fixture(scope="session")
def s3_endpoint():
    """One S3 server for all tests of a session."""
    if not s3_server.is_installed():
        pytest.skip(s3_server.MISSING)
    with s3_server.server() as url:
        yield url


@pytest.fixture
def s3(s3_endpoint, monkeypatch):
    """An S3 file system with a bucket `data`, as every client of this process and its children sees it."""
    import s3fs

    for name, value in s3_server.environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = s3fs.S3FileSystem()
    bucket.makedirs("data", exist_ok=True)
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def postgresql():
    """One PostgreSQL server for all tests of a session."""
    if postgres_server.programs() is None:
        pytest.skip("PostgreSQL's server is not installed; type: apt-get install postgresql")
    with postgres_server.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, monkeypatch):
    """Every test that asks for it runs on both databases, each time on an empty one."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
        monkeypatch.setenv("LTX_FLOWS_DATABASE_URL", url)
        settings.cache_clear()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        engine.dispose()


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory):
    """Prefect's empty database, for copies; all processes of a session share it."""
    folder = tmp_path_factory.getbasetemp()
    return PrefectDatabase(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory, prefect_database):
    """Prefect with a database of its own: flows of a test session need no server started by hand."""
    from prefect import settings as names
    from prefect.settings import temporary_settings

    home = tmp_path_factory.mktemp("prefect") / "home"
    database = f"sqlite+aiosqlite:///{prefect_database.copy_to(home)}"
    with temporary_settings(
        {
            names.PREFECT_HOME: home,
            names.PREFECT_API_URL: None,
            names.PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
            names.PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 90,
            names.PREFECT_API_DATABASE_CONNECTION_URL: database,
            names.PREFECT_RESULTS_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results"),
            names.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            names.PREFECT_LOGGING_TO_API_ENABLED: False,
        }
    ):
        yield
    logging.raiseExceptions = False  # the server's last words come after pytest has closed its streams

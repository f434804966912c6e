"""The Prefect server of one HOME: its password, its database, its end."""

import os
import time

import httpx
import pytest
from sqlalchemy import create_engine, inspect

from flows.hosting.prefect_server import entrance, prefect_server
from schemas.settings import settings

pytestmark = [
    pytest.mark.slow(seconds=30),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the keeper outlives whoever starts it
]


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)


@pytest.mark.long  # its migrations take ten seconds
def test_it_takes_postgresql_by_one_setting_asks_for_its_password_and_ends_with_its_last_user(
    postgresql, alone, home, monkeypatch
):
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE keeper")
    database = f"{postgresql.rpartition('/')[0]}/keeper"
    monkeypatch.setenv("LTX_FLOWS_PREFECT_DATABASE_URL", database)
    settings.cache_clear()
    with prefect_server() as url:
        assert httpx.post(f"{url}/flow_runs/count", json={}).status_code == 401
        known_as = tuple(os.environ["PREFECT_API_AUTH_STRING"].split(":", 1))
        assert httpx.post(f"{url}/flow_runs/count", json={}, auth=known_as).json() == 0
        assert entrance().startswith(f"{url.removesuffix('/api')}/enter#")
        assert (home / "server" / "password").stat().st_mode & 0o777 == 0o600
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health")
        except httpx.TransportError:
            break
        time.sleep(0.2)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health")
    assert not (home / "prefect" / "prefect.db").exists()
    prefects = create_engine(database)
    assert "flow_run" in inspect(prefects).get_table_names()
    prefects.dispose()
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE keeper WITH (FORCE)")
    engine.dispose()

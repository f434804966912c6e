"""Every test gets a home of its own: no test sees another's store, ledger or settings."""

import pytest

from schemas.settings import settings


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("STORE", "OUTPUTS", "DATABASE_URL", "BASE_MODEL"):
        monkeypatch.delenv(f"LTX_FLOWS_{name}", raising=False)
    monkeypatch.setenv("LTX_FLOWS_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()

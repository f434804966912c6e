"""An API that is asked by two clients."""

import pytest

from schemas.settings import settings


@pytest.fixture
def two_keys(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_API_KEYS", "mine,other")
    settings.cache_clear()

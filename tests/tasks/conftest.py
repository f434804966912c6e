"""Stores of either kind."""

from uuid import uuid4

import pytest

from schemas.settings import settings


@pytest.fixture(params=["local", "s3"])
def kind(request, monkeypatch):
    """Every test that asks for it runs on both, each time on an empty one."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        monkeypatch.setenv("LTX_FLOWS_STORE", f"s3://data/{uuid4()}")
        settings.cache_clear()
    return request.param

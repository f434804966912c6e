"""A client of the session's Prefect server."""

import pytest


@pytest.fixture(scope="module")
def client(prefect):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client

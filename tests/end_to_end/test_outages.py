"""Prefect's server goes away under a training and comes back: the run ends as if nothing had been."""

from functools import partial

import pytest

from tests.support.outages import Site, let_alone, server_away, under_a_run

pytestmark = [pytest.mark.long, pytest.mark.slow(seconds=60), pytest.mark.timeout(300)]

STEPS = 500  # the training goes on for a while after the server is gone
SECONDS_AWAY = 6.0


@pytest.fixture(scope="module")
def run_alone(tmp_path_factory):
    """The LoRA of a run that is let alone."""
    folder = tmp_path_factory.mktemp("alone")
    with Site(folder / "site", STEPS) as site:
        return let_alone(folder, site)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_server_killed_under_a_run_and_started_again_changes_nothing(request, kind, tmp_path, run_alone):
    database = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    with Site(tmp_path / "site", STEPS, database) as site:
        ended = under_a_run(site, partial(server_away, seconds=SECONDS_AWAY))
    assert ended.faults(run_alone) == []

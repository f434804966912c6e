"""The README's tables are complete."""

from pathlib import Path

import pytest

from schemas.endpoints import ENDPOINTS
from schemas.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_table(name):
    assert f"| `{name.upper()}` |" in README


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_is_in_the_table_with_its_price(name):
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    assert row.endswith(f"| {ENDPOINTS[name].usd_per_step} |")

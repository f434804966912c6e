"""A successful run costs max(100, steps) units, once; a failed one costs nothing."""

from decimal import Decimal

import pytest

from schemas.endpoints import ENDPOINTS
from schemas.result import Billing
from tasks.ledger import bills, record, table

PRICES = {
    "audio-extend-prefix": "0.0022",
    "extend-prefix": "0.0062",
    "ic-lora/a2a": "0.0023",
    "ic-lora/av2av": "0.0068",
    "av2av-masked": "0.0068",
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_has_its_own_price_per_step(name):
    assert ENDPOINTS[name].usd_per_step == Decimal(PRICES[name])


@pytest.mark.parametrize(("steps", "units"), [(100, 100), (99, 100), (2000, 2000)])
def test_units_are_steps_but_at_least_a_hundred(steps, units):
    assert ENDPOINTS["extend-prefix"].price(steps).billable_units == units


def test_a_thousand_steps_cost_what_the_seed_says():
    assert ENDPOINTS["extend-prefix"].price(1000).usd == Decimal("6.20")
    assert ENDPOINTS["audio-extend-prefix"].price(1000).usd == Decimal("2.20")


def test_amounts_are_exact_and_printed_without_exponents():
    assert Billing.of(20000, Decimal("0.0022")).model_dump_json() == (
        '{"billable_units":20000,"usd_per_step":"0.0022","usd":"44"}'
    )


def test_a_run_is_billed_once_however_often_it_is_recorded():
    for _ in range(3):
        record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    assert [(bill.run_id, bill.billing.usd) for bill in bills()] == [("run-1", Decimal("0.6200"))]


def test_the_table_shows_each_run_and_the_sum():
    record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    record("run-2", "audio-extend-prefix", Billing.of(100, Decimal("0.0022")))
    assert table(bills()).splitlines()[-1] == "2 runs, 0.8400 USD"

"""A successful run costs max(100, steps) units, once; a failed one costs nothing."""

import subprocess
import sys
from decimal import Decimal

import pytest

from schemas.endpoints import ENDPOINTS
from schemas.errors import DatabaseDamaged, LedgerUnavailable, TransientError
from schemas.result import Billing
from schemas.settings import settings
from tasks.ledger.bills import as_csv, bills, open_ledger, record, table, totals

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


@pytest.mark.usefixtures("ledger")
def test_a_run_is_billed_once_however_often_it_is_recorded():
    for _ in range(3):
        record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    assert [(bill.run_id, bill.billing.usd) for bill in bills()] == [("run-1", Decimal("0.6200"))]


@pytest.mark.usefixtures("ledger")
def test_amounts_are_summed_per_endpoint_and_month():
    for number, endpoint in enumerate(("extend-prefix", "extend-prefix", "audio-extend-prefix")):
        record(f"run-{number}", endpoint, Billing.of(100, Decimal("0.0062")))
    month = f"{bills()[0].billed_at:%Y-%m}"
    sums = {(month, "extend-prefix"): Decimal("1.24"), (month, "audio-extend-prefix"): Decimal("0.62")}
    assert totals(bills()) == sums


@pytest.mark.usefixtures("ledger")
def test_the_ledger_goes_into_a_spreadsheet_with_exact_amounts():
    record("run-1", "extend-prefix", Billing.of(137, Decimal("0.0062")))
    head, row = as_csv(bills()).splitlines()
    assert head == "billed_at,endpoint,billable_units,usd_per_step,usd,run_id"
    assert row.endswith(",extend-prefix,137,0.0062,0.8494,run-1")


@pytest.mark.usefixtures("ledger")
def test_many_processes_may_open_a_new_ledger_at_once():
    code = "from tasks.ledger.bills import *; "
    code += "record('run-' + __import__('sys').argv[1], 'x', Billing.of(100, Decimal('0.1')))"
    started = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(4)]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    assert len(bills()) == 4


@pytest.mark.usefixtures("ledger")
def test_a_run_that_is_delivered_by_several_processes_at_once_is_billed_once():
    code = "from tasks.ledger.bills import *; "
    code += "[record(f'run-{n}', 'x', Billing.of(100, Decimal('0.1'))) for n in range(9)]"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert sorted(bill.run_id for bill in bills()) == [f"run-{number}" for number in range(9)]


@pytest.mark.parametrize("url", ["postgresql+psycopg://ltx:secret@127.0.0.1:9/ledger", "sqlite:////nowhere/ledger.db"])
def test_a_ledger_that_does_not_answer_is_tried_again_and_its_password_is_not_told(url, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_DATABASE_URL", url)
    settings.cache_clear()
    with pytest.raises(LedgerUnavailable) as raised:
        record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    assert isinstance(raised.value, TransientError)
    assert url.replace("secret", "***") in str(raised.value)


@pytest.mark.usefixtures("ledger")
def test_the_table_shows_each_run_and_the_sum():
    record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    record("run-2", "audio-extend-prefix", Billing.of(100, Decimal("0.0022")))
    assert table(bills()).splitlines()[-1] == "2 runs, 0.8400 USD"


# --- a damaged ledger ---------------------------------------------------------------------------------------------


def billed_once():
    record("run-1", "extend-prefix", Billing.of(100, Decimal("0.0062")))


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


DAMAGES = {
    "cut": (cut, "malformed"),
    "garbled": (lambda path: path.write_bytes(b"garbage" * 2000), "file is not a database"),
    "emptied": (lambda path: path.write_bytes(b""), "it is empty"),
    "gone": (lambda path: path.unlink(), "it is gone"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_one_line_that_says_what_is_lost_and_what_to_type_and_is_never_begun_anew(damage, home):
    for number in range(200):  # several pages
        record(f"run-{number}", "extend-prefix", Billing.of(100, Decimal("0.0062")))
    spoil, reason = DAMAGES[damage]
    spoil(home / "ledger.db")
    for ask in (bills, billed_once, open_ledger):
        with pytest.raises(DatabaseDamaged) as raised:
            ask()
        [line] = str(raised.value).splitlines()
        assert f"the ledger {home / 'ledger.db'} is damaged" in line and reason in line
        assert "without the bills and API requests that it held, type:" in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_it_says_to_type_begins_a_new_ledger(damage, home):
    billed_once()
    DAMAGES[damage][0](home / "ledger.db")
    with pytest.raises(DatabaseDamaged) as raised:
        bills()
    subprocess.run(["sh", "-c", str(raised.value).split("type: ")[1]], check=True)
    assert bills() == []


def test_a_new_ledger_that_was_cut_off_before_its_first_bill_is_no_damage(home):
    home.mkdir()
    (home / "ledger.db").touch()
    assert bills() == []

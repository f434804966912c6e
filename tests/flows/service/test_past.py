"""The history of a key: by endpoint, standing and phrase, page by page, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.service import past, register
from flows.service.endings import CANCELLED
from flows.service.past import STANDINGS, Wanted, standing
from flows.service.register import entry_of

pytestmark = pytest.mark.usefixtures("ledger")
ANSWERS = {
    "finished": (200, {"billing": {}}),
    "rejected": (422, {"detail": []}),
    "cancelled": CANCELLED,
    "failed": (500, {"detail": [{"msg": "request_of somebody"}]}),
}


def asked(minutes=0, owner="me", endpoint="extend-prefix", phrase="", stands="waiting"):
    entry = entry_of(endpoint, {"trigger_phrase": phrase}, owner=owner, origin="https://here")
    entry.submitted_at = datetime.now(UTC) + timedelta(minutes=minutes)
    register.add(entry)
    if stands != "waiting":
        register.change(entry.id, started_at=entry.submitted_at)
    if stands in ANSWERS:
        code, answer = ANSWERS[stands]
        register.change(entry.id, ended_at=entry.submitted_at, code=code, answer=answer)
    return entry.id


def seen(number=1, **wanted):
    return [entry.id for entry in past.page("me", Wanted(**wanted), number).entries]


def test_an_owners_requests_come_newest_first():
    first, third, second = (asked(minutes) for minutes in (1, 3, 2))
    asked(4, owner="you")
    assert seen() == [third, second, first]


def test_each_standing_is_found_by_its_name_and_told_by_it():
    made = {name: asked(minutes, stands=name) for minutes, name in enumerate(STANDINGS)}
    assert {name: seen(standing=name) for name in STANDINGS} == {name: [made[name]] for name in STANDINGS}
    assert {name: standing(register.get(made[name])) for name in STANDINGS} == {name: name for name in STANDINGS}
    assert seen(standing="nothing of these") == []


def test_a_phrase_is_found_by_a_part_in_any_case_and_signs_mean_themselves():
    walk, percent, accent = asked(3, phrase="Zoomy walk"), asked(2, phrase="100 % zoomy"), asked(1, phrase="café")
    assert seen(phrase="zOOmy") == [walk, percent]
    assert (seen(phrase="%"), seen(phrase="é"), seen(phrase="\0 ")) == ([percent], [accent], [walk, percent, accent])


def test_an_endpoint_narrows_what_a_phrase_has_found():
    one = asked(phrase="zoomy", endpoint="ic-lora/a2a")
    asked(phrase="zoomy")
    assert seen(phrase="zoomy", endpoint="ic-lora/a2a") == [one]


def test_pages_follow_each_other_without_a_gap_and_the_last_one_holds_on(monkeypatch):
    monkeypatch.setattr(past, "PAGE", 2)
    made = [asked(minutes) for minutes in range(5)]
    assert seen(1) + seen(2) + seen(3) == made[::-1]
    last = past.page("me", Wanted(), 99)
    assert (last.number, last.of, last.found, [entry.id for entry in last.entries]) == (3, 3, 5, made[:1])


def test_only_finished_requests_of_the_same_endpoint_are_offered_to_compare():
    done = asked(1, stands="finished")
    asked(2, stands="rejected")
    asked(3, stands="finished", endpoint="ic-lora/a2a")
    assert [entry.id for entry in past.finished("me", "extend-prefix", 5)] == [done]

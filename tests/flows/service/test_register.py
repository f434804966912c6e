"""The register of requests and the addresses of uploads keep what they are told, on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.service import register
from flows.service import upload_register as addresses
from flows.service.register import entry_of
from tests.support.service_app import BASE, BODY, RESULT

pytestmark = pytest.mark.usefixtures("ledger")
WHEN = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)


def asked(owner="me", minutes=0, **known):
    entry = entry_of(
        "extend-prefix", BODY | {"trigger_phrase": "ü\0\N{HIGH VOLTAGE SIGN}"}, owner=owner, origin=BASE, **known
    )
    return entry.model_copy(update={"submitted_at": WHEN + timedelta(minutes=minutes)})


def test_a_request_is_read_as_it_was_written():
    entry, new = register.add(asked(idempotency_key="once", webhook="https://me.example"))
    assert new and register.get(entry.id) == entry


def test_the_same_idempotency_key_of_an_owner_is_the_same_request():
    first, _ = register.add(asked(idempotency_key="once"))
    assert register.add(asked(idempotency_key="once", minutes=1)) == (first, False)
    assert register.add(asked(idempotency_key="once", owner="you"))[1]
    assert all(register.add(asked())[1] for _ in range(2))  # without a key each is its own


def test_what_becomes_of_a_request_is_kept():
    entry, _ = register.add(asked())
    became = {
        "run_id": "run-1",
        "started_at": WHEN,
        "ended_at": WHEN,
        "code": 200,
        "answer": RESULT,
        "webhook_tries": 2,
    }
    register.change(entry.id, **became)
    assert register.get(entry.id) == entry.model_copy(update=became)


def test_what_is_open_is_unsettled_oldest_first_and_what_is_still_to_be_told_is_due():
    running, ended, told, waiting = (register.add(asked(minutes=minutes))[0] for minutes in (3, 2, 1, 0))
    for entry, state in ((ended, None), (told, register.PENDING)):
        register.change(entry.id, ended_at=WHEN, code=200, answer=RESULT, webhook_state=state)
    assert [entry.id for entry in register.unsettled()] == [waiting.id, running.id]
    assert [entry.id for entry in register.due_webhooks(9)] == [told.id]


def test_a_request_ends_once_and_is_revised_once():
    entry, _ = register.add(asked(webhook="https://me.example"))
    assert [register.end(entry, 503, {"detail": "crashed"}) for _ in range(2)] == [True, False]
    assert not register.note_run(entry.id, "run-2") and not register.note_cancelled(entry.id)
    register.change(entry.id, run_id="run-1", webhook_state="delivered", webhook_due=None)
    assert [each.id for each in register.failed_since(WHEN, 9)] == [entry.id]
    assert [register.revise(entry, RESULT) for _ in range(2)] == [True, False]
    assert register.failed_since(WHEN, 9) == [] and [each.id for each in register.due_webhooks(9)] == [entry.id]


def test_a_webhook_is_claimed_by_one_and_what_is_new_meanwhile_is_not_overwritten():
    entry, _ = register.add(asked(webhook="https://me.example"))
    register.end(entry, 503, {"detail": "crashed"})
    due = register.get(entry.id)
    until = datetime.now(UTC) + timedelta(minutes=1)
    assert [register.claim_webhook(due, until) for _ in range(2)] == [True, False]
    assert register.due_webhooks(9) == []
    register.revise(entry, RESULT)
    due.webhook_state, due.webhook_due = "delivered", None
    register.note_webhook(due, until)  # of what was told before
    assert register.get(entry.id).webhook_state == register.PENDING


@pytest.mark.parametrize("unknown", ["", "nobody", "a\0b"])
def test_what_is_no_request_is_not_found(unknown):
    register.add(asked())
    assert register.get(unknown) is None


def test_an_upload_is_known_before_and_after_its_content_came():
    upload = addresses.announce("me", "a ü\0 clip's.zip")
    assert addresses.find(upload.id) == upload
    assert (upload.name, upload.sha256, upload.content_url) == ("a ü clip's.zip", None, None)
    addresses.finish(upload.id, "0" * 64)
    assert addresses.find(upload.id).content_url == f"upload://{'0' * 64}/a%20%C3%BC%20clip%27s.zip"
    assert addresses.find("0" * 32) is None


def test_only_addresses_where_nothing_came_to_be_are_forgotten(monkeypatch):
    empty, complete = (addresses.announce("me", "clips.zip") for _ in range(2))
    addresses.finish(complete.id, "0" * 64)
    addresses.forget_abandoned()
    assert addresses.find(empty.id)
    monkeypatch.setattr(addresses, "UNFINISHED_SECONDS", -1)
    addresses.forget_abandoned()
    assert (addresses.find(empty.id), addresses.find(complete.id).sha256) == (None, "0" * 64)

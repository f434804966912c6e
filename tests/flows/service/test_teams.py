"""Several processes of the API on one database, and runs that somebody lets go on: each client is told once."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from flows.service import own_secrets as secrets
from flows.service import register, webhooks
from flows.service.register import entry_of
from schemas.result import TrainingResult
from schemas.settings import settings
from tasks.ledger import outcomes
from tests.support.service_app import APP, BASE, BODY, RESULT, FakeRuns
from tests.support.team import read, tell, two

HOOK = {"params": {"fal_webhook": "https://me.example/hook"}}


@pytest.fixture
def heard(monkeypatch):
    """What the other end of every webhook hears."""
    requests = []

    def receive(request):
        requests.append(request)
        return httpx.Response(200)

    monkeypatch.setenv("LTX_FLOWS_ALLOW_PRIVATE_HOSTS", "true")
    settings.cache_clear()
    monkeypatch.setattr(webhooks, "client_of", lambda: httpx.AsyncClient(transport=httpx.MockTransport(receive)))
    return requests


def test_each_answers_for_requests_that_came_to_the_other(ledger):
    async def asks(first, second):
        request = await first.submitted()
        await read(second)
        await second.move(request, "Running")
        seen = [(await each.status(request))["status"] for each in (first, second)]
        await second.complete(request)
        await read(first)
        return seen[1], [(await each.get(request)).status_code for each in (first, second)]

    assert two(asks) == ("IN_PROGRESS", [200, 200])


def test_what_was_read_before_a_request_ended_does_not_open_it_again(monkeypatch):
    async def ends(service, _):
        request = await service.submitted()
        await service.move(request, "Running")
        stale = register.get(request)
        await service.complete(request)
        monkeypatch.setattr(register, "unsettled", lambda: [stale])
        await read(service)
        return (await service.status(request))["status"]

    assert two(ends) == "COMPLETED"


def test_a_webhook_is_told_once_whoever_looks(ledger, heard):
    async def ends(first, second):
        request = await first.submitted(**HOOK)
        await read(second)
        service_runs = first.runs
        outcomes.tell_result(service_runs.started[request], TrainingResult.model_validate(RESULT))
        service_runs.move(service_runs.started[request], "Completed", final=True)
        await asyncio.gather(first.look(), second.look())
        for _ in range(3):
            await tell(first, second)
        return request

    request = two(ends)
    assert [each.headers["x-fal-webhook-request-id"] for each in heard] == [request]
    assert register.get(request).webhook_state.startswith("delivered")


def test_a_webhook_whose_teller_died_is_told_by_another_one_after_a_while(heard):
    entry, _ = register.add(entry_of("extend-prefix", BODY, owner="anybody", origin=BASE, webhook="https://me.example"))
    register.end(entry, 200, RESULT)
    entry = register.get(entry.id)
    assert register.claim_webhook(entry, datetime.now(UTC) + timedelta(hours=1))  # and nothing more

    async def later(service, other):
        await tell(service, other)
        before = len(heard)
        register.change(entry.id, webhook_due=datetime.now(UTC))  # an hour later
        await tell(service, other)
        return before

    assert (two(later), len(heard)) == (0, 1)


def test_links_and_signatures_of_one_are_those_of_the_other(ledger, monkeypatch, tmp_path):
    mine = secrets.secret("links", 32)
    secrets._secret.cache_clear()
    if "sqlite" not in settings().ledger_url:  # another machine
        monkeypatch.setenv("LTX_FLOWS_HOME", str(tmp_path / "other"))
        settings.cache_clear()
    assert secrets.secret("links", 32) == mine != secrets.secret("webhooks", 32)


def test_a_secret_of_an_earlier_version_is_kept(home):
    secrets._secret.cache_clear()
    (home / "service").mkdir(parents=True)
    (home / "service" / "links.secret").write_bytes(b"s" * 32)
    assert secrets.secret("links", 32) == b"s" * 32


# --- runs that go on ----------------------------------------------------------------------------------------------


def test_a_run_that_crashed_and_goes_on_is_still_in_progress_and_gets_its_result(heard):
    async def goes_on(service, _):
        request = await service.submitted(**HOOK)
        await service.move(request, "Running")
        await service.move(request, "Crashed")  # not final: it is tried again
        meanwhile = (await service.status(request))["status"]
        await service.complete(request)
        await tell(service)
        return meanwhile, (await service.get(request)).status_code

    assert two(goes_on) == ("IN_PROGRESS", 200)
    assert [b'"status": "OK"' in each.content for each in heard] == [True]


@pytest.mark.parametrize(("state", "code"), [("Crashed", 503), ("Cancelled", 400), ("Failed", 500)])
def test_a_request_that_ended_and_whose_run_completes_later_gets_its_result_and_a_second_webhook(state, code, heard):
    async def later(first, second):
        request = await first.submitted(**HOOK)
        await first.move(request, state, final=True)
        await tell(first)
        before = (await first.get(request)).status_code
        run = first.runs.started[request]
        outcomes.tell_result(run, TrainingResult.model_validate(RESULT))
        first.runs.move(run, "Completed", final=True)
        await asyncio.gather(first.app.state.watcher.revise(), second.app.state.watcher.revise())
        await tell(first, second)
        await first.app.state.watcher.revise()
        return before, [(await each.get(request)).status_code for each in (first, second)]

    assert two(later) == (code, [200, 200])
    assert [b'"status": "OK"' in each.content for each in heard] == [False, True]


def test_a_cancelled_request_whose_run_was_not_heard_of_is_cancelled_until_it_ends():
    class Deaf(FakeRuns):
        asked = 0

        async def cancel(self, run_id):
            self.asked += 1
            if self.asked < 3:
                raise httpx.ReadTimeout("busy")
            await super().cancel(run_id)

    async def cancel(service, _):
        request = await service.submitted()
        answer = await service.http.put(f"{APP}/requests/{request}/cancel")
        for _ in range(3):
            await service.look()
        return answer.status_code, (await service.get(request)).json()["error_type"]

    assert two(cancel, Deaf()) == (202, "request_cancelled")

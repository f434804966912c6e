"""Several processes of the API on one database, and runs that somebody lets go on: each client is told once."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from flows.service import own_secrets as secrets
from flows.service import register, starting, webhooks
from flows.service.prefect_runs import NotDeployed
from flows.service.register import entry_of
from schemas.result import TrainingResult
from schemas.settings import settings
from tasks.ledger import outcomes
from tests.support.service_app import APP, BASE, BODY, RESULT, FakeRuns, api

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


def two(doing, runs=None):
    """Two processes, as far as a test needs them: two applications over the same runs and the same database."""

    async def both():
        shared = runs or FakeRuns()
        async with api(shared) as first, api(shared) as second:
            return await doing(first, second)

    return asyncio.run(both())


async def tell(*services):
    await asyncio.gather(*(each.app.state.watcher.deliveries.tell_due() for each in services))
    await asyncio.gather(*(each.app.state.watcher.deliveries.all_told() for each in services))


async def read(*services):
    for each in services:
        await each.app.state.watcher.read()


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


# --- starting -----------------------------------------------------------------------------------------------------


def refused(status, body="x" * 600_000):
    response = httpx.Response(status, text=body, request=httpx.Request("POST", "http://inner:4200/api/create"))
    return httpx.HTTPStatusError(f"Client error - Response: {body}", request=response.request, response=response)


class Refusing(FakeRuns):
    def __init__(self, fault):
        super().__init__()
        self.fault, self.asked = fault, 0

    async def start(self, entry):
        self.asked += 1
        if self.fault:
            raise self.fault
        return await super().start(entry)


@pytest.mark.parametrize("status", [409, 413, 422])
def test_a_request_that_prefect_refuses_ends_and_is_logged_once_without_its_body(status, caplog):
    async def submit(service, _):
        request = await service.submitted()
        for _ in range(3):
            await service.app.state.watcher.start_due()
        return await service.get(request)

    runs = Refusing(refused(status))
    answer = two(submit, runs)
    assert (answer.status_code, runs.asked) == (500, 1)
    assert f"refused it ({status})" in answer.text and len(answer.text) < 1000
    assert len(caplog.text) < 1000


def test_what_cannot_be_started_is_tried_again_after_longer_and_longer_pauses(caplog):
    async def submit(service, _):
        await service.submitted()
        for _ in range(20):
            await service.app.state.watcher.start_due()

    two(submit, runs := Refusing(refused(503)))
    assert runs.asked == 1 and len(caplog.text) < 1000


@pytest.mark.parametrize(
    ("fault", "waited", "code"),
    [
        (NotDeployed("extend-prefix is not deployed"), timedelta(minutes=9), 400),
        (NotDeployed("extend-prefix is not deployed"), timedelta(minutes=11), 503),
        (refused(503), timedelta(hours=23), 400),
        (refused(503), timedelta(hours=25), 503),
    ],
)
def test_nothing_is_in_the_queue_for_ever(fault, waited, code):
    entry = entry_of("extend-prefix", BODY, owner="anybody", origin=BASE)
    register.add(entry.model_copy(update={"submitted_at": entry.submitted_at - waited}))

    async def starts(service, _):
        while not runs.asked or service.app.state.watcher.starter.going:
            await asyncio.sleep(0.05)
        return (await service.get(entry.id)).status_code  # 400: it is in progress

    runs = Refusing(fault)
    assert two(starts, runs) == code


def test_a_request_is_answered_before_prefect_is_asked():
    class Slow(FakeRuns):
        async def start(self, entry):
            await asyncio.sleep(3600)

    async def submit(service, _):
        async with asyncio.timeout(10):
            return (await service.http.post(f"{APP}/extend-prefix", json=BODY)).json()["status"]

    assert two(submit, Slow()) == "IN_QUEUE"


def test_a_request_that_another_process_ended_while_its_run_was_made_has_that_run_cancelled():
    class Interrupted(FakeRuns):
        async def start(self, entry):
            run = await super().start(entry)
            register.end(entry, *starting.CANCELLED)
            return run

    async def submit(service, _):
        request = await service.submitted()
        await read(service)
        return (await service.get(request)).json()["error_type"], service.runs.running[service.runs.started[request]]

    kind, run = two(submit, Interrupted())
    assert (kind, run.name) == ("request_cancelled", "Cancelled")


# --- what clients say of their patience ---------------------------------------------------------------------------


def test_an_idempotency_key_with_another_body_is_a_conflict():
    async def submit(service, _):
        key = {"Idempotency-Key": "a"}
        same = [(await service.submit(headers=key)).json()["request_id"] for _ in range(2)]
        other = await service.submit(body=BODY | {"rank": 64}, headers=key)
        elsewhere = await service.submit("ic-lora/av2av", headers=key)
        return len(set(same)), other.status_code, elsewhere.status_code, len(service.runs.started)

    assert two(submit) == (1, 409, 409, 1)


def test_a_request_that_does_not_start_in_the_time_that_its_client_gives_it_ends_and_its_run_is_not_started():
    async def submit(service, _):
        request = await service.submitted(headers={"X-Fal-Request-Timeout": "0.2"})
        running = await service.submitted(headers={"X-Fal-Request-Timeout": "0.2"})
        await service.move(running, "Running")
        await asyncio.sleep(0.3)
        await service.look()
        return await service.get(request), (await service.status(running))["status"], service.runs

    answer, running, runs = two(submit)
    assert (answer.status_code, answer.headers["x-fal-request-timeout-type"], running) == (504, "user", "IN_PROGRESS")
    assert sorted(each.name for each in runs.running.values()) == ["Rejected", "Running"]


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf"])
def test_a_patience_that_is_no_time_is_a_fault_of_its_header(value):
    answer = two(lambda service, _: service.submit(headers={"X-Fal-Request-Timeout": value}))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["header", "x-fal-request-timeout"])


# --- fal.run ------------------------------------------------------------------------------------------------------


async def finishing(service):
    """End the only request with its result as soon as it has a run."""
    while not service.runs.started:
        await service.app.state.watcher.start_due()
        await asyncio.sleep(0.01)
    await service.complete(next(iter(service.runs.started)))


def test_who_waits_for_the_result_gets_it_as_the_answer():
    async def run(service, _):
        answer, _ = await asyncio.gather(service.http.post(f"/run{APP}/extend-prefix", json=BODY), finishing(service))
        return answer

    answer = two(run)
    assert (answer.status_code, answer.json()["billing"]["usd"]) == (200, "12.4")
    assert answer.headers["x-fal-billable-units"] == "2000"


def test_a_client_that_gives_up_waiting_and_asks_again_does_not_train_twice():
    async def run(service, _):
        url = f"/run{APP}/extend-prefix"
        asked = [asyncio.create_task(service.http.post(url, json=BODY)) for _ in range(2)]
        while not service.runs.started:
            await asyncio.sleep(0.05)
        asked[0].cancel()
        await finishing(service)
        after = await service.http.post(url, json=BODY)  # it came too late for the end, and asks once more
        other = asyncio.create_task(service.http.post(url, json=BODY | {"rank": 64}))
        while len(service.runs.started) < 2:
            await asyncio.sleep(0.05)
        other.cancel()
        return (await asked[1]).status_code, after.status_code, len(service.runs.started)

    assert two(run) == (200, 200, 2)


def test_fal_run_through_the_proxy_waits_for_the_result():
    async def run(service, _):
        headers = {"x-fal-target-url": f"https://fal.run{APP}/extend-prefix"}
        answer, _ = await asyncio.gather(service.http.post("/proxy", json=BODY, headers=headers), finishing(service))
        return answer.json()["billing"]["usd"]

    assert two(run) == "12.4"

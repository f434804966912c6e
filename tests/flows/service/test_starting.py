"""Requests are answered first and started then: what Prefect refuses, what waits, how patient a client is."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from flows.service import register, starting
from flows.service.prefect_runs import NotDeployed
from flows.service.register import entry_of
from tests.support.service_app import APP, BASE, BODY, FakeRuns
from tests.support.team import read, two


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

"""The queue over HTTP: what clients of the hosted endpoints send, and what they get."""

import asyncio
import base64
import json

import pytest

from flows.service import register
from flows.service.register import entry_of
from schemas.endpoints import ENDPOINTS
from schemas.rejections import NothingFound
from tests.support.service_app import APP, BASE, BODY, JSON, FakeRuns, api


def of_the_api(test):
    """Runs a test's coroutine with a fresh API."""

    async def with_api():
        async with api() as service:
            await test(service)

    def run():
        asyncio.run(with_api())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@of_the_api
async def test_every_endpoint_takes_a_request_and_says_where_to_go_on(service):
    for name in ENDPOINTS:
        answer = await service.submit(name)
        told = answer.json()
        here = f"{BASE}{APP}/requests/{told['request_id']}"  # without the endpoint's own path
        assert (told["response_url"], told["status_url"], told["cancel_url"]) == (
            here,
            f"{here}/status",
            f"{here}/cancel",
        )
        assert answer.headers["x-fal-request-id"] == told["request_id"]


@of_the_api
async def test_a_request_of_low_priority_waits_behind_all_others(service):
    asked = [await service.submit(headers={"X-Fal-Queue-Priority": each}) for each in ("low", "normal")]
    low, normal = (each.json()["request_id"] for each in asked)
    assert [(await service.status(each))["queue_position"] for each in (normal, low)] == [0, 1]
    watcher = service.app.state.watcher
    assert [register.get(each).priority for each in (normal, low)] == ["normal", "low"]
    assert watcher.entries[low].priority == "low"
    refused = await service.submit(headers={"X-Fal-Queue-Priority": "urgent"})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["header", "x-fal-queue-priority"])


@of_the_api
async def test_a_request_waits_its_turn_runs_and_ends_with_its_result(service):
    first, second = [await service.submitted() for _ in range(2)]
    assert [(await service.status(each))["queue_position"] for each in (first, second)] == [0, 1]
    service.runs.told[service.runs.started[first]].append("downloading")
    await service.move(first, "Running")
    status = await service.status(first)
    assert (status["status"], status["logs"][0]["message"]) == ("IN_PROGRESS", "downloading")
    assert (await service.status(second))["queue_position"] == 0
    assert (await service.get(first)).status_code == 400
    await service.complete(first)
    status = await service.status(first)
    assert status["status"] == "COMPLETED" and status["metrics"]["inference_time"] >= 0
    answer = await service.get(first)
    assert answer.json()["billing"]["usd"] == "12.4"
    assert answer.headers["x-fal-billable-units"] == "2000"
    assert answer.json()["lora_file"]["url"].startswith(f"{BASE}/files/")


@of_the_api
async def test_logs_and_queue_position_are_always_there_as_python_reads_them_unasked(service):
    request = await service.submitted()
    for name, final in (("Pending", False), ("Running", False), ("Crashed", True)):
        await service.move(request, name, final=final)
        status = (await service.get(request, "/status")).json()
        assert status["logs"] is None and "queue_position" in status


@of_the_api
async def test_lines_that_come_after_the_end_are_in_the_log(service):
    request = await service.submitted()
    await service.complete(request)
    service.runs.told[service.runs.started[request]].append("billed")
    await service.look()
    assert [line["message"] for line in (await service.status(request))["logs"]] == ["billed"]


@of_the_api
async def test_a_wrong_request_is_told_at_once_with_every_fault(service):
    answer = await service.submit(body=BODY | {"rank": 33, "number_of_steps": 5})
    assert answer.status_code == 422
    faults = {fault["loc"][-1]: fault["type"] for fault in answer.json()["detail"]}
    assert faults == {"rank": "one_of", "number_of_steps": "greater_than_equal"}
    assert answer.headers["X-Fal-Retryable"] == "false"
    assert not service.runs.started


@of_the_api
async def test_a_webhook_in_the_body_is_refused_with_the_way_that_works(service):
    (fault,) = (await service.submit(body=BODY | {"webhookUrl": "https://x.example"})).json()["detail"]
    assert fault["loc"] == ["body", "webhookUrl"] and "fal_webhook" in fault["msg"]


@of_the_api
async def test_a_body_that_is_no_json_is_a_fault_of_the_request(service):
    answer = await service.http.post(f"{APP}/extend-prefix", content=b"{rank:", headers=JSON)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")


@of_the_api
async def test_a_run_that_is_rejected_completes_with_the_error_and_answers_422_with_its_detail(service):
    request = await service.submitted()
    await service.reject(request, NothingFound("clips.zip", (".mp4",)))
    status = await service.status(request)
    assert (status["status"], status["error_type"]) == ("COMPLETED", "archive_file_count_below_minimum")
    answer = await service.get(request)
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0")
    assert answer.json()["detail"][0]["loc"] == ["body", "training_data_url"]


@pytest.mark.parametrize(("name", "code"), [("Failed", 500), ("Crashed", 503), ("Cancelled", 400)])
def test_a_run_that_ends_otherwise_completes_with_an_error_and_says_why(name, code):
    @of_the_api
    async def ends(service):
        request = await service.submitted()
        await service.move(request, name, "the device is full", final=True)
        assert (await service.status(request))["status"] == "COMPLETED"
        answer = await service.get(request)
        assert answer.status_code == code and answer.headers["x-fal-request-id"] == request

    ends()


@of_the_api
async def test_cancelling_is_asked_for_and_seen_to_happen(service):
    request = await service.submitted()
    answer = await service.http.put(f"{APP}/requests/{request}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    await service.look()
    assert (await service.get(request)).json()["error_type"] == "request_cancelled"
    again = await service.http.put(f"{APP}/requests/{request}/cancel")
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})


@of_the_api
async def test_an_unknown_request_is_not_found(service):
    for what in ("", "/status", "/status/stream"):
        assert (await service.get("00000000-0000-0000-0000-000000000000", what)).status_code == 404


@of_the_api
async def test_the_same_idempotency_key_is_the_same_request(service):
    first, again, other = [await service.submitted(headers={"Idempotency-Key": key}) for key in ("a", "a", "b")]
    assert first == again != other
    assert len(service.runs.started) == 2


@of_the_api
async def test_small_files_in_the_request_go_to_the_store_and_not_to_prefect(service):
    archive = f"data:application/zip;base64,{base64.b64encode(b'PK..').decode()}"
    request = await service.submitted(body={"training_data_url": archive})
    entry = service.app.state.watcher.entries[request]
    assert entry.body["training_data_url"].startswith("upload://")


@of_the_api
async def test_the_stream_tells_every_change_until_the_end(service):
    request = await service.submitted()

    async def moves():
        await asyncio.sleep(0)
        await service.move(request, "Running")
        await service.complete(request)

    moving = asyncio.create_task(moves())
    answer = await service.get(request, "/status/stream")
    await moving
    told = [json.loads(line[6:])["status"] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert told[-1] == "COMPLETED" and answer.headers["content-type"].startswith("text/event-stream")


@of_the_api
async def test_the_proxy_route_serves_whatever_host_the_client_had_in_mind(service):
    target = f"https://queue.fal.run{APP}/extend-prefix?fal_webhook=ftp://x"
    answer = await service.http.post("/proxy", json=BODY, headers={"x-fal-target-url": target})
    assert answer.json()["detail"][0]["loc"] == ["query", "fal_webhook"]
    assert (await service.http.get("/proxy")).status_code == 400


@of_the_api
async def test_a_body_beyond_the_limit_is_refused_whether_it_says_its_length_or_not(service):
    async def endless():
        for _ in range(70):
            yield b" " * 2**20

    assert (await service.http.post(f"{APP}/extend-prefix", content=endless(), headers=JSON)).status_code == 413
    assert (
        await service.http.post(f"{APP}/extend-prefix", content=b" " * (65 * 2**20), headers=JSON)
    ).status_code == 413


def test_requests_outlive_the_api():
    runs = FakeRuns()

    async def before():
        async with api(runs) as service:
            return [await service.submitted() for _ in range(2)]

    async def after(first, second):
        async with api(runs) as service:
            assert (await service.status(second))["queue_position"] == 1
            await service.complete(first)
            return (await service.get(first)).status_code

    assert asyncio.run(after(*asyncio.run(before()))) == 200


def test_a_request_that_was_written_down_but_not_started_is_started_by_the_next_api():
    entry, new = register.add(entry_of("extend-prefix", BODY, owner="anybody", origin=BASE))
    assert new

    async def next_api():
        async with api() as service:
            await service.app.state.watcher.start_due()
            return list(service.runs.started)

    assert asyncio.run(next_api()) == [entry.id]

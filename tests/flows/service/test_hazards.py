"""What nobody should send, and what should not happen: the HTTP API answers in its own shape and goes on."""

import asyncio
import json

import httpx
import pytest

from flows.service import webhooks
from flows.service.register import entry_of
from schemas.errors import ServerUnavailable
from tasks.sources import network
from tests.support.service_app import APP, BODY, JSON, FakeRuns, api

NESTED = b"[" * 900 + b"]" * 900


async def with_api(doing, runs=None):
    async with api(runs) as service:
        return await doing(service)


def through(doing, runs=None):
    return asyncio.run(with_api(doing, runs))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b'{"training_data_url": "\\ud800"}',
        b'{"\\ud800": 1}',
        NESTED,
        b'{"training_data_url": "https://x.example/a.zip", "rank": ' + NESTED + b"}",
        b"9" * 5000,
    ],
)
def test_what_no_request_can_be_is_no_json(body):
    answer = through(lambda service: service.http.post(f"{APP}/extend-prefix", content=body, headers=JSON))
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")


@pytest.mark.parametrize(("field", "value"), [("stg_scale", b"NaN"), ("stg_scale", b"1e999"), ("rank", b"-Infinity")])
def test_numbers_that_json_does_not_have_are_faults_of_their_field(field, value):
    body = b'{"training_data_url": "https://x.example/a.zip", "%s": %s}' % (field.encode(), value)
    answer = through(lambda service: service.http.post(f"{APP}/extend-prefix", content=body, headers=JSON))
    assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", field]]


@pytest.mark.parametrize("body", [None, [], "a", 7])
def test_a_body_that_is_no_object_is_a_fault_of_the_body(body):
    content = json.dumps(body)
    answer = through(lambda service: service.http.post(f"{APP}/extend-prefix", content=content, headers=JSON))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])


@pytest.mark.parametrize(
    "url", ["http://[", "http://a:99999999/", "https://x.example:abc/", "http://a\0b/", "http://x y/", "//x.example"]
)
def test_a_webhook_that_is_no_url_is_a_fault_of_the_query(url):
    answer = through(lambda service: service.submit(params={"fal_webhook": url}))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "fal_webhook"])


def test_a_webhook_goes_to_the_address_that_was_checked_under_the_name_that_was_given(monkeypatch):
    heard = []
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("1.1.1.1", 443))])
    client = httpx.AsyncClient(
        transport=network.AsyncPublicTransport(
            httpx.MockTransport(lambda request: heard.append(request) or httpx.Response(200))
        )
    )
    entry = entry_of("extend-prefix", BODY, owner="anybody", origin="", webhook="https://me.example/hook?a=1")
    asyncio.run(webhooks.send(client, entry, b"{}"))
    assert str(heard[0].url) == "https://1.1.1.1/hook?a=1"
    assert (heard[0].headers["host"], heard[0].extensions["sni_hostname"]) == ("me.example", "me.example")


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "64:ff9b::a00:1", "169.254.169.254", "224.0.0.1"])
def test_a_name_that_leads_into_a_private_network_is_no_webhook(monkeypatch, address):
    both = [(0, 0, 0, "", ("1.1.1.1", 443)), (0, 0, 0, "", (address, 443))]
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(webhooks.Forbidden, match="private network"):
        webhooks.check_webhook("https://me.example/hook")


@pytest.mark.parametrize("target", ["http://[", "x", ""])
def test_a_proxy_target_that_is_no_url_is_refused(target):
    headers = {"x-fal-target-url": target}
    assert through(lambda service: service.http.get("/proxy", headers=headers)).status_code == 400


def test_a_proxy_target_is_read_as_a_path_is():
    headers = {"x-fal-target-url": f"https://queue.fal.run{APP}/extend%2Dprefix"}
    assert through(lambda service: service.http.post("/proxy", json=BODY, headers=headers)).status_code == 200


class Unreachable(FakeRuns):
    """Prefect does not answer, or does not know the deployment, until it is told otherwise."""

    fault: Exception | None = httpx.ConnectError("http://inner:4200 refused")

    async def start(self, entry):
        if self.fault and entry.endpoint == "extend-prefix":
            raise self.fault
        return await super().start(entry)


async def again(service):
    """What could not be started is tried again, without waiting for its time."""
    service.app.state.watcher.starter.wait.clear()
    await service.app.state.watcher.start_due()


def test_a_request_is_taken_while_prefect_does_not_answer_and_started_when_it_does():
    async def later(service):
        request = await service.submitted()
        before = list(service.runs.started)
        service.runs.fault = None
        await again(service)
        return before, service.runs.started.keys() == {request}

    assert through(later, Unreachable()) == ([], True)


def test_what_cannot_start_holds_up_nothing_else():
    async def other(service):
        await service.submitted()
        request = await service.submitted(endpoint="ic-lora/a2a")
        await service.move(request, "Running")
        return (await service.status(request))["status"]

    runs = Unreachable()
    runs.fault = ServerUnavailable("extend-prefix is not deployed")
    assert through(other, runs) == "IN_PROGRESS"


class Interrupted(FakeRuns):
    """Something happens while it is being asked."""

    meanwhile = None

    async def logs(self, run_id, offset):
        happens, self.meanwhile = self.meanwhile, None
        if happens:
            await happens()
        return await super().logs(run_id, offset)


def test_a_request_may_come_while_all_others_are_looked_at():
    async def come(service):
        await service.complete(await service.submitted())
        service.runs.meanwhile = service.submitted
        await service.look()  # its last lines may still come
        return len(service.app.state.watcher.entries)

    assert through(come, Interrupted()) == 2


class BrokenFor(FakeRuns):
    """A defect in looking at one endpoint's runs, or at any."""

    everything = True

    async def states(self, run_ids):
        if self.everything:
            self.everything = False
            raise ZeroDivisionError
        return await super().states(run_ids)

    async def logs(self, run_id, offset):
        if run_id == next(iter(self.running)):
            raise ZeroDivisionError
        return await super().logs(run_id, offset)


def test_a_defect_in_looking_at_one_request_leaves_the_others_alone_and_is_logged(caplog):
    async def ends(service):
        broken, request = await service.submitted(), await service.submitted()
        for each in (broken, request):
            service.runs.move(service.runs.started[each], "Cancelled", final=True)
        async with asyncio.timeout(10):
            while (await service.status(request))["status"] != "COMPLETED":  # by nobody's looking but its own
                await asyncio.sleep(0.1)
        return (await service.status(broken))["status"]

    assert through(ends, BrokenFor()) == "IN_PROGRESS"
    assert "ZeroDivisionError" in caplog.text


def test_cancelling_while_prefect_does_not_answer_ends_the_request_as_soon_as_it_does():
    async def cancel(service):
        request = await service.submitted()
        service.runs.find = refuse
        answer = await service.http.put(f"{APP}/requests/{request}/cancel")
        waiting = (await service.status(request))["status"]
        del service.runs.find
        await again(service)
        return answer.status_code, waiting, (await service.get(request)).json()["error_type"], service.runs.started

    async def refuse(entry_id):
        raise httpx.ConnectError("http://inner:4200 refused")

    assert through(cancel, Unreachable()) == (202, "IN_QUEUE", "request_cancelled", {})


def test_a_request_that_is_cancelled_before_it_was_started_does_not_run():
    async def cancel(service):
        request = await service.submitted()
        service.runs.fault = None
        await service.http.put(f"{APP}/requests/{request}/cancel")
        await service.look()
        return (await service.get(request)).json()["error_type"]

    assert through(cancel, Unreachable()) == "request_cancelled"


def test_a_request_whose_run_was_deleted_ends():
    async def delete(service):
        request = await service.submitted()
        service.runs.running.clear()
        await service.look()
        return (await service.get(request)).json()

    assert through(delete)["detail"] == "its Prefect run was deleted"


@pytest.mark.parametrize("state", ["Crashed", "Cancelled"])
def test_a_run_that_ends_otherwise_after_it_was_billed_has_its_result(state):
    async def end(service):
        request = await service.submitted()
        await service.complete(request, state=state)
        return (await service.get(request)).json()["billing"]

    assert through(end)["billable_units"] == 2000


def test_a_defect_of_ours_answers_in_the_same_shape(monkeypatch):
    async def cancel(service):
        service.http._transport.raise_app_exceptions = False
        request = await service.submitted()
        monkeypatch.setattr(service.app.state.watcher, "cancel", lambda entry: 1 / 0)
        return await service.http.put(f"{APP}/requests/{request}/cancel")

    answer = through(cancel)
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_server_error")
    assert "x-fal-request-id" in answer.headers


class Chatty(FakeRuns):
    """Logs come in parts, as Prefect gives them."""

    async def logs(self, run_id, offset):
        return (await super().logs(run_id, offset))[:2]


def test_logs_come_whole_however_many_there_are():
    async def talk(service):
        request = await service.submitted()
        service.runs.told[service.runs.started[request]] += list("abcde")
        await service.move(request, "Failed", "it broke", final=True)
        return "".join(line["message"] for line in (await service.status(request))["logs"])

    assert through(talk, Chatty()) == "abcde"

"""One client must not hurt another, and a page from elsewhere nobody: bounds, names, origins, words."""

import asyncio
import json
import logging
import time

import pytest

from flows.service.routes import plan
from schemas.endpoints import ENDPOINTS
from schemas.errors import LedgerUnavailable
from schemas.redaction import for_clients
from schemas.rejections import MOST_FAULTS, RequestRejected
from tests.support.service_app import APP, BASE, BODY, JSON, api


async def with_api(doing, **headers):
    async with api(**headers) as service:
        return await doing(service)


def through(doing, **headers):
    return asyncio.run(with_api(doing, **headers))


def asked(method="POST", path=f"{APP}/extend-prefix", **headers):
    """The code of a request with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = json.dumps(BODY) if method in ("POST", "PUT") else None
    return through(lambda service: service.http.request(method, path, content=content, headers=JSON | named))


@pytest.mark.parametrize("text", ["a\0b", "a\x1bb", "\x7f", "\x85"])
@pytest.mark.parametrize("field", ["trigger_phrase", "validation_negative_prompt", "training_data_url"])
def test_control_characters_are_refused_at_once(field, text):
    with pytest.raises(RequestRejected, match="control character"):
        ENDPOINTS["extend-prefix"].read(BODY | {field: text})


def test_lines_and_tabs_are_text():
    asked = ENDPOINTS["extend-prefix"].read(BODY | {"validation_negative_prompt": "a\r\nb\tc"})
    assert asked.validation_negative_prompt == "a\r\nb\tc"


@pytest.mark.parametrize(
    ("field", "longest"),
    [("trigger_phrase", 1000), ("validation_negative_prompt", 10_000), ("training_data_url", 4096)],
)
def test_texts_have_lengths(field, longest):
    text = "https://x.example/".ljust(longest, "a")
    ENDPOINTS["extend-prefix"].read(BODY | {field: text})
    with pytest.raises(RequestRejected) as refusal:
        ENDPOINTS["extend-prefix"].read(BODY | {field: text + "a"})
    (fault,) = refusal.value.details()
    assert (fault.loc, fault.type) == (("body", field), "string_too_long")


def test_a_file_in_a_request_may_be_longer_than_an_address():
    body = BODY | {"training_data_url": f"data:application/zip;base64,{'A' * 3 * 2**20}"}
    assert ENDPOINTS["extend-prefix"].read(body).training_data_url.startswith("data:")
    assert through(lambda service: service.submit(body=body)).status_code == 200


def test_thousands_of_faults_are_told_as_a_hundred_and_quickly():
    body = BODY | {f"unknown{n}": "x" * 20 for n in range(4000)}
    began = time.monotonic()
    answer = through(lambda service: service.submit(body=body))
    faults = answer.json()["detail"]
    assert (answer.status_code, len(faults), faults[-1]["msg"]) == (422, MOST_FAULTS + 1, "and 3900 more faults")
    assert time.monotonic() - began < 10


def test_what_was_sent_is_repeated_in_part():
    long = {"rank": {"a": "x" * 100_000}, "y" * 100_000: "z" * 100_000}
    answer = through(lambda service: service.submit(body=BODY | long))
    assert answer.status_code == 422 and len(answer.content) < 5000


@pytest.mark.parametrize("content", [b'{"a": "%s"}' % (b"x" * 2**20), b'{"data:": 1, "a": "%s"}' % (b"x" * 2**20)])
def test_a_body_without_files_has_a_smaller_bound(content):
    answer = through(lambda service: service.http.post(f"{APP}/extend-prefix", content=content, headers=JSON))
    assert answer.status_code == 413 and "1048576" in answer.text


def test_a_body_of_very_many_values_is_refused():
    answer = through(lambda service: service.submit(body=BODY | {"validation": [1] * 6000}))
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")


def test_others_are_answered_while_a_large_body_is_refused():
    """12 MB of unknown keys stalled everybody for half a minute."""
    content = b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}"

    async def both(service):
        refused = asyncio.create_task(service.http.post(f"{APP}/extend-prefix", content=content, headers=JSON))
        longest, began = 0.0, time.monotonic()
        while not refused.done():
            await service.http.get("/.well-known/jwks.json")
            longest, began = max(longest, time.monotonic() - began), time.monotonic()
        return (await refused).status_code, longest

    code, longest = through(both)
    assert code == 413 and longest < 3


def test_plans_of_one_key_hold_up_no_other_and_no_submission(setting, monkeypatch):
    setting(api_keys="one,two")
    hold = asyncio.Event()

    async def slow(self, owner, endpoint, asked):
        async with self._one_of(owner):
            await hold.wait()

    monkeypatch.setattr(plan.Slots, "plan", slow)

    async def many(service):
        def ask(key):
            return service.http.post(f"{APP}/plan/extend-prefix", json=BODY, headers={"Authorization": f"Key {key}"})

        waiting = [asyncio.create_task(ask("one")) for _ in range(plan.MOST_PER_KEY)]
        await asyncio.sleep(0.3)
        more, other = await ask("one"), asyncio.create_task(ask("two"))
        await asyncio.sleep(0.2)
        submitted = await service.submit(headers={"Authorization": "Key one"})
        held = service.app.state.plans.going
        for task in (*waiting, other):
            task.cancel()
        return more, len(held), submitted.status_code

    more, keys, submitted = through(many)
    assert (more.status_code, int(more.headers["retry-after"]) > 0, keys, submitted) == (429, True, 2, 200)


def test_a_stream_tells_each_line_once():
    async def follow(service):
        request = await service.submitted()
        lines = service.runs.told[service.runs.started[request]]

        async def moves():
            for name in ("Running", "Running", "Running"):
                lines.append(f"line {len(lines)}")
                await service.move(request, name)
                await asyncio.sleep(0.05)
            await service.complete(request)

        answer, _ = await asyncio.gather(service.get(request, "/status/stream?logs=1"), moves())
        told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        return [line["message"] for status in told for line in status["logs"]], told[-1]["status"]

    assert through(follow) == (["line 0", "line 1", "line 2"], "COMPLETED")


# --- names and pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8484", "[::1]:8484", "192.168.1.7:8484"])
def test_it_answers_under_its_own_names(host):
    assert asked(host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8484", "", "[::"])
def test_a_name_that_leads_here_from_elsewhere_is_refused_with_the_setting_that_would_allow_it(host):
    for method in ("GET", "POST"):
        answer = asked(method, host=host)
        assert (answer.status_code, "LTX_FLOWS_ALLOWED_HOSTS" in answer.text) == (421, True)


def test_names_in_the_settings_are_its_own(setting):
    setting(public_url="https://ltx.example.org", allowed_hosts="gpu, gpu.lan")
    assert [asked(host=host).status_code for host in ("ltx.example.org", "gpu:8484", "gpu.lan", "gpu.wan")] == [
        200, 200, 200, 421,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost:9000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "https://localhost"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", f"{APP}/extend-prefix"), ("PUT", "/uploads/a.zip")])
def test_a_page_from_elsewhere_changes_nothing(method, path, headers):
    assert asked(method, path, **headers).status_code == 403


def test_pages_of_ours_and_of_the_reverse_proxy_do(setting):
    setting(public_url="https://ltx.example.org")
    for origin in (BASE, "https://ltx.example.org"):
        assert asked(origin=origin, sec_fetch_site="same-origin").status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
@pytest.mark.parametrize("path", [f"{APP}/extend-prefix", f"{APP}/plan/extend-prefix", "/storage/upload/initiate"])
def test_json_is_taken_as_json_alone(path, kind):
    answer = asked(path=path, content_type=kind)
    assert (answer.status_code, "application/json" in answer.text) == (415, True)


def test_links_have_the_address_of_the_reverse_proxy(setting):
    setting(public_url="https://ltx.example.org/")
    told = through(lambda service: service.submit()).json()
    assert told["status_url"].startswith(f"https://ltx.example.org{APP}/")


@pytest.mark.parametrize(("proxies", "scheme"), [("127.0.0.1", "https"), ("10.1.1.1", "http"), ("", "http")])
def test_only_a_trusted_proxy_is_believed(setting, proxies, scheme):
    setting(trusted_proxies=proxies)

    async def submit(service):
        headers = {"X-Forwarded-Proto": "https"}
        return await service.http.post(f"http://localhost{APP}/extend-prefix", json=BODY, headers=headers)

    assert through(submit).json()["status_url"].startswith(f"{scheme}://localhost/")


# --- what clients are told, and logs hold -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "the ledger postgresql+psycopg://ltx:***@db.internal:5432/ledger does not answer (connect to 10.0.0.5:5432)",
        "OSError: [Errno 28] No space left on device: '/srv/my models/x'",
        "/srv/ltx/store may not be read or written; see ~/.ltx-flows/server.log",
        "could not reach prefect:4200",
        "HTTPConnectionPool(host='minio', port=9000)",
    ],
)
def test_errors_tell_no_paths_hosts_or_addresses(text):
    told = for_clients(text)
    for secret in ("db.internal", "5432", "10.0.0", "/srv", "my models", ".ltx-flows", "prefect:", "minio"):
        assert secret not in told


@pytest.mark.parametrize(
    "text",
    [
        "step 12 of 100: loss audio 0.51, gradient norm 1e-05, 3/5 at 10:30:05",
        "a.mp4: have 1.2 s, need 2 s; 30/24 fps, 16:9",
        "the training diverged: at step 5 the adapter is not finite; lower learning_rate, which is 0.01",
        "2026-01-01T00:00:00+00:00 billed 100 units (0.22 USD)",
    ],
)
def test_what_helps_a_client_stays(text):
    assert for_clients(text) == text


def test_a_ledger_that_does_not_answer_is_told_without_its_address(monkeypatch):
    def down(entry):
        raise LedgerUnavailable("the ledger postgresql://ltx@db.internal:5432/ledger does not answer (down)")

    monkeypatch.setattr("flows.service.register.add", down)
    answer = through(lambda service: service.http.post(f"{APP}/extend-prefix", json=BODY))
    assert (answer.status_code, answer.json()["detail"]) == (503, "the ledger [...] does not answer (down)")


def test_a_failed_run_tells_its_client_no_paths():
    async def fail(service):
        request = await service.submitted()
        await service.move(request, "Failed", "FileNotFoundError: '/srv/ltx/store/x'", final=True)
        return (await service.get(request)).text + json.dumps(await service.status(request))

    assert "/srv" not in through(fail)


def test_access_logs_hold_no_signatures(caplog):
    async def log(service):
        with caplog.at_level(logging.INFO, logger="uvicorn.access"):
            arguments = ("127.0.0.1:1", "GET", "/files/a/lora.safetensors?expires=1&signature=s3cret", "1.1", 200)
            logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *arguments)

    through(log)
    assert "/files/a/lora.safetensors HTTP" in caplog.text and "s3cret" not in caplog.text

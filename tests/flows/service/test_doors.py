"""Who gets in and what gets out: keys, limits, links, uploads, webhooks and pages of the HTTP API."""

import asyncio
import base64
import re
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from flows.service import auth as keys
from flows.service import register, webhooks
from flows.service.app import ROUTERS
from flows.service.register import entry_of
from schemas.rejections import NothingFound
from schemas.settings import settings
from tasks.sources.fetch import fetch
from tests.support.service_app import APP, BASE, BODY, RESULT, api

OPEN = {"/.well-known/jwks.json", "/files/{run_id}/{name}"}  # public keys, signed links
OPEN |= {"/sign-in", "/static/{name}"}  # the door itself
OPEN |= {f"/uploads/{{upload_id}}/{{name}}{what}" for what in ("", "/{number}", "/complete")}  # signed links, too


@pytest.fixture
def locked(monkeypatch, home):
    monkeypatch.setenv("LTX_FLOWS_API_KEYS", "id:first, s3cond")
    settings.cache_clear()


async def with_api(doing, **headers):
    async with api(**headers) as service:
        return await doing(service)


def through(doing, **headers):
    return asyncio.run(with_api(doing, **headers))


def test_no_route_lets_a_caller_without_a_key_in(locked):
    async def walk(service):
        answers = {}
        for route in (route for router in ROUTERS for route in router.routes):
            path = re.sub(r"{\w+}", "x", route.path)
            for method in route.methods - {"HEAD"}:
                answers[route.path, method] = (await service.http.request(method, path)).status_code
        return answers

    codes = through(walk)
    assert {path for (path, _), code in codes.items() if code != 401} == OPEN
    assert set(through(walk, Authorization="Key wrong").values()) == set(codes.values())


@pytest.mark.parametrize(
    "header", ["Key id:first", "Bearer s3cond", f"Basic {base64.b64encode(b'me:s3cond').decode()}", "key  s3cond"]
)
def test_a_key_opens_the_api_in_every_way_that_clients_send_it(locked, header):
    assert through(lambda service: service.submit(), Authorization=header).status_code == 200


@pytest.mark.parametrize("header", ["Key", "s3cond", "Basic %%%", "Key id", "Digest s3cond"])
def test_nothing_else_opens_it(locked, header):
    assert through(lambda service: service.submit(), Authorization=header).status_code == 401


def test_a_key_sees_its_own_requests_alone(locked):
    async def both(service):
        request = await service.submitted(headers={"Authorization": "Key s3cond"})
        other = {"Authorization": "Key id:first"}
        seen = await service.http.get(f"{APP}/requests/{request}/status", headers=other)
        history = await service.http.get("/", headers=other)
        return seen.status_code, request in history.text

    assert through(both) == (404, False)


def test_keys_are_kept_nowhere(locked, home):
    through(lambda service: service.submit(), Authorization="Key s3cond")
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"clips.zip" in kept and b"s3cond" not in kept
    assert "s3cond" not in repr(settings())


def test_too_many_submissions_are_told_to_wait(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_SUBMISSIONS_PER_MINUTE", "2")
    settings.cache_clear()

    async def three(service):
        return [await service.submit() for _ in range(3)]

    *_, last = through(three)
    assert last.status_code == 429 and int(last.headers["retry-after"]) <= 61


async def finished(service, home):
    request = await service.submitted()
    folder = home / "outputs" / service.runs.started[request]
    folder.mkdir(parents=True)
    (folder / "lora.safetensors").write_bytes(b"lora")
    (folder / "preview.mp4").write_bytes(b"0123456789")
    await service.complete(request, RESULT | {"video": RESULT["lora_file"] | {"file_name": "preview.mp4"}})
    return request, (await service.get(request)).json()


def test_finished_files_open_by_their_links_and_in_parts(home, locked):
    async def download(service):
        _, result = await finished(service, home)
        whole = await service.http.get(result["lora_file"]["url"], headers={"Authorization": ""})
        part = await service.http.get(result["video"]["url"], headers={"Range": "bytes=2-4"})
        return whole.content, part.status_code, part.content

    assert through(download, Authorization="Key s3cond") == (b"lora", 206, b"234")


@pytest.mark.parametrize(("old", "new"), [("lora.", "../lora."), ("lora", "config"), ("expires=", "expires=9")])
def test_a_link_opens_no_other_file_and_not_for_longer(home, old, new):
    async def download(service):
        _, result = await finished(service, home)
        return await service.http.get(result["lora_file"]["url"].replace(old, new, 1))

    assert through(download).status_code in (403, 404)


def test_an_expired_link_is_closed(home, monkeypatch):
    async def download(service):
        _, result = await finished(service, home)
        monkeypatch.setattr("flows.service.links.time.time", lambda: 9e12)
        return await service.http.get(result["lora_file"]["url"])

    assert through(download).status_code == 403


def test_an_uploaded_file_is_what_a_run_downloads():
    async def upload(service):
        plain = await service.http.put("/uploads/my clips.zip", content=b"PK..")
        as_fal = await service.http.post("/files/upload", content=b"PK..", headers={"X-Fal-File-Name": "clips.zip"})
        return plain.json()["url"], as_fal.json()["access_url"]

    for url in through(upload):
        file = fetch(url, ("training_data_url",))
        assert (file.size, file.sha256) == (4, sha256(b"PK..").hexdigest())


def test_an_upload_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_MAX_DOWNLOAD_BYTES", "3")
    settings.cache_clear()
    assert through(lambda service: service.http.put("/uploads/a.zip", content=b"PK..")).status_code == 413


class Receiver:
    """The other end of a webhook: fails as often as it is told to, then hears."""

    def __init__(self, failures=0):
        self.failures, self.heard = failures, []

    def __call__(self, request):
        if self.failures:
            self.failures -= 1
            return httpx.Response(503)
        self.heard.append(request)
        return httpx.Response(200)


@pytest.fixture
def receive(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_ALLOW_PRIVATE_HOSTS", "true")
    settings.cache_clear()
    monkeypatch.setattr(webhooks, "WAITS", (0,) * len(webhooks.WAITS))

    def replace(receiver):
        monkeypatch.setattr(webhooks, "client_of", lambda: httpx.AsyncClient(transport=httpx.MockTransport(receiver)))
        return receiver

    return replace


async def deliveries(service):
    """Until nothing is left to tell."""
    for _ in range(2 * len(webhooks.WAITS)):
        await service.app.state.watcher.deliveries.tell_due()
        await service.app.state.watcher.deliveries.all_told()


async def told(service, end):
    request = await service.submitted(params={"fal_webhook": "https://me.example/hook"})
    await end(service, request)
    await deliveries(service)
    return request, (await service.http.get("/.well-known/jwks.json")).json()["keys"][0]["x"]


def test_a_webhook_tells_the_result_and_proves_where_it_comes_from(receive):
    receiver = receive(Receiver(failures=2))
    request, x = through(lambda service: told(service, lambda s, r: s.complete(r)))
    (heard,) = receiver.heard
    assert b'"status": "OK"' in heard.content and b"/files/" in heard.content
    header = {name: heard.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")}
    signed = "\n".join((*header.values(), sha256(heard.content).hexdigest())).encode()
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=="))
    signature = bytes.fromhex(heard.headers["x-fal-webhook-signature"])
    key.verify(signature, signed)
    with pytest.raises(InvalidSignature):
        key.verify(signature, signed + b" ")
    entry = register.get(request)
    assert (entry.webhook_tries, entry.webhook_state.split()[0]) == (3, "delivered")


def test_a_webhook_tells_the_faults_of_a_rejected_run(receive):
    receiver = receive(Receiver())
    through(lambda service: told(service, lambda s, r: s.reject(r, NothingFound("clips.zip", (".mp4",)))))
    assert b'"status": "ERROR"' in receiver.heard[0].content
    assert b"archive_file_count_below_minimum" in receiver.heard[0].content


def test_a_webhook_that_is_never_heard_is_given_up_and_said_so(receive):
    receive(Receiver(failures=99))
    request, _ = through(lambda service: told(service, lambda s, r: s.complete(r)))
    entry = register.get(request)
    assert (entry.webhook_tries, entry.webhook_state) == (11, "given up: it answered 503")


def test_a_webhook_that_was_not_delivered_is_delivered_by_the_next_api(receive):
    entry, _ = register.add(entry_of("extend-prefix", BODY, owner="anybody", origin=BASE, webhook="https://me.example"))
    register.change(entry.id, ended_at=entry.submitted_at, code=200, answer=RESULT, webhook_state="pending")
    receiver = receive(Receiver())

    async def next_api(service):
        await deliveries(service)

    through(next_api)
    assert [request.headers["x-fal-webhook-request-id"] for request in receiver.heard] == [entry.id]


@pytest.mark.parametrize("url", ["http://127.0.0.1/hook", "http://169.254.169.254/", "ftp://x", "https://"])
def test_webhooks_into_the_private_network_are_refused_at_submission(url):
    answer = through(lambda service: service.submit(params={"fal_webhook": url}))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "fal_webhook"])


def test_the_history_shows_requests_their_cost_and_their_preview(home):
    async def look(service):
        request, _ = await finished(service, home)
        return (await service.http.get("/")).text, (await service.http.get(f"/history/{request}")).text

    history, page = through(look)
    assert "extend-prefix" in history and "12.40 USD" in history and "finished" in history
    assert re.search(r'<video controls [^>]*src="/files/[^"]+preview.mp4', page)
    assert "live.js" not in page  # nothing is live any more


def test_what_users_write_is_text_on_the_page():
    async def look(service):
        request = await service.submitted(body=BODY | {"trigger_phrase": "<script>alert(1)</script>"})
        return (await service.http.get("/")).text + (await service.http.get(f"/history/{request}")).text

    assert "<script>alert" not in through(look)


def test_the_history_shows_no_signature_of_a_url():
    async def look(service):
        signed = {"training_data_url": "https://me:s3cret@example.com/clips.zip?X-Amz-Signature=s3cret"}
        request = await service.submitted(body=signed)
        return (await service.http.get(f"/history/{request}")).text

    page = through(look)
    assert "https://example.com/clips.zip" in page and "s3cret" not in page


def test_the_documentation_lists_every_route_and_field():
    page = through(lambda service: service.http.get("/docs")).text
    assert "reference_temporal_scale_factor" in page and "/requests/{request_id}/cancel" in page


def test_templates_are_installed_with_the_package():
    names = {path.name for path in (Path(keys.__file__).parent / "templates").iterdir()}
    pages = {"history", "request", "compare", "endpoints", "form", "docs", "sign_in", "problem"}
    assert names == {f"{name}.html" for name in pages | {"base", "parts", "fields"}}

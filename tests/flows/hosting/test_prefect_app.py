"""What stands before Prefect's server: it asks a busy database again, and lets no page from elsewhere in."""

import asyncio

import httpx
import pytest

from flows.hosting import prefect_app
from flows.hosting.files import Files
from flows.hosting.prefect_app import PAUSES, AskAgain, OwnPagesOnly

URL = "http://here/api/deployments/1/create_flow_run"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(prefect_app, "PAUSES", (0,) * len(PAUSES))


class Busy:
    """Writes down what it is asked, and is busy so many times."""

    def __init__(self, times):
        self.times, self.asked = times, []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.asked.append((scope["method"], body))
        status = 503 if len(self.asked) <= self.times else 201
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"busy" if status == 503 else b"made"})
        if status == 503:
            raise OSError("database is locked")  # as Starlette does after it has answered


def answer(app, method="POST", url=URL):
    async def chunks():
        yield b"a flow "
        yield b"run"

    async def ask():
        transport = httpx.ASGITransport(AskAgain(app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, content=chunks())

    return asyncio.run(ask())


def test_what_is_to_be_written_is_asked_again_whole_until_it_is():
    told = answer(app := Busy(times=2))
    assert (told.status_code, told.text) == (201, "made")
    assert app.asked == [("POST", b"a flow run")] * 3


def test_a_database_that_stays_busy_is_told_in_the_end():
    told = answer(app := Busy(times=100))
    assert (told.status_code, told.text) == (503, "busy")
    assert len(app.asked) == len(PAUSES) + 1


def test_what_is_read_is_asked_once():
    assert answer(app := Busy(times=1), "GET").status_code == 503
    assert len(app.asked) == 1


def test_that_somebody_has_to_wait_for_a_limit_is_told_at_once():
    told = answer(app := Busy(times=1), url="http://here/api/v2/concurrency_limits/increment")
    assert (told.status_code, len(app.asked)) == (503, 1)


# --- whose pages may ask ------------------------------------------------------------------------------------------


async def nothing_but_yes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"yes"})


def asked(method="POST", path="/api/flow_runs/", **headers):
    """What the server answers a request with these headers."""

    async def ask():
        transport = httpx.ASGITransport(OwnPagesOnly(nothing_but_yes))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4200") as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(ask()).status_code


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "[::1]:4200", "localhost:9999"])
def test_programs_and_its_own_pages_may_ask(host):
    assert asked(host=host) == 200
    assert asked(host=host, origin=f"http://{host}", sec_fetch_site="same-origin") == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:4200", "192.168.1.7:4200", ""])
def test_a_name_that_leads_here_from_elsewhere_is_refused(host):
    assert asked("GET", host=host) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},  # another server of the same machine
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_from_elsewhere_is_refused(method, headers):
    assert asked(method, **headers) == 403


def test_a_link_on_a_page_from_elsewhere_opens_ours():
    assert asked("GET", "/runs", sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 200
    assert asked("POST", "/runs", sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 403


def test_the_entrance_hands_the_password_to_the_page_and_not_to_the_server():
    async def ask():
        transport = httpx.ASGITransport(OwnPagesOnly(nothing_but_yes))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:4200") as client:
            return await client.get("/enter")

    told = asyncio.run(ask())
    assert "prefect-password" in told.text and told.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("extend-prefix/prod", "extend-prefix/extend-prefix"),
        ("ic-lora-a2a/prod", "ic-lora-a2a/ic-lora-a2a"),
        ("extend-prefix/mine", "extend-prefix/mine"),
        ("somebody-elses/prod", "somebody-elses/prod"),
    ],
)
def test_a_deployment_is_found_by_the_name_that_it_had(asked, found):
    async def ask():
        transport = httpx.ASGITransport(prefect_app.FormerNames(the_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:4200") as client:
            return (await client.get(f"/api/deployments/name/{asked}")).text

    assert asyncio.run(ask()) == f"/api/deployments/name/{found}"


def test_the_servers_own_beginning_and_end_pass_by_every_door():
    heard = []

    async def app(scope, receive, send):
        heard.append(scope["type"])

    doors = OwnPagesOnly(Files(AskAgain(prefect_app.FormerNames(app))))
    asyncio.run(doors({"type": "lifespan"}, None, None))
    assert heard == ["lifespan"]


async def the_path(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["raw_path"]})

"""People sign in with a key; pages from elsewhere make nothing of that. Pages of other origins, where they may."""

import asyncio
import time
from hashlib import sha256

import pytest

from flows.service import sessions
from schemas.settings import settings
from tests.support.service_app import APP, BASE, BODY, JSON, api

HERE, ELSEWHERE = {"Origin": BASE}, {"Origin": "https://elsewhere.example"}
FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


@pytest.fixture(autouse=True)
def keys(setting):
    setting(api_keys="first,second")
    return setting


async def sign_in(service, key="first", then="/"):
    return await service.http.post("/sign-in", data={"key": key, "then": then}, headers=FORM | HERE)


def signed_in(doing):
    async def whole():
        async with api() as service:
            answer = await sign_in(service)
            assert answer.status_code == 303
            return await doing(service)

    return asyncio.run(whole())


def unsigned(doing):
    async def whole():
        async with api() as service:
            return await doing(service)

    return asyncio.run(whole())


def test_a_key_begins_a_session_that_opens_pages_and_the_api():
    async def look(service):
        pages = [await service.http.get(path) for path in ("/", "/train", "/docs")]
        return [page.status_code for page in pages], (await service.submit(headers=HERE)).status_code

    assert signed_in(look) == ([200] * 3, 200)


def test_a_session_is_of_one_key_alone():
    async def look(service):
        theirs = await service.submitted(headers={"Authorization": "Key second"})
        mine = await service.submitted(headers=HERE)
        return [(await service.http.get(f"/history/{each}")).status_code for each in (theirs, mine)]

    assert signed_in(look) == [404, 200]


def test_the_cookie_is_closed_to_scripts_other_sites_and_plain_http_and_holds_no_key():
    async def look(service):
        return (await sign_in(service)).headers["set-cookie"]

    cookie = unsigned(look)
    assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/"} <= set(cookie.split("; "))
    digest = sha256(b"first").hexdigest()
    assert "first" not in cookie and digest[:16] not in cookie


@pytest.mark.parametrize("public_url", ["", "https://ltx.example.org"])
def test_over_plain_http_the_cookie_is_secure_where_people_come_by_https(setting, public_url):
    setting(public_url=public_url)

    async def look(service):
        answer = await service.http.post("http://localhost/sign-in", data={"key": "first"}, headers=FORM)
        return "Secure" in answer.headers["set-cookie"]

    assert unsigned(look) == bool(public_url)


@pytest.mark.parametrize(
    "sent",
    [{}, ELSEWHERE, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}, HERE | {"Sec-Fetch-Site": "none"}],
)
def test_a_session_changes_nothing_unless_a_page_of_ours_asks(sent):
    async def change(service):
        request = await service.submitted(headers=HERE)
        paths = [(f"{APP}/extend-prefix", BODY), (f"/history/{request}/cancel", None), ("/sign-out", None)]
        codes = [(await service.http.post(path, json=body, headers=sent)).status_code for path, body in paths]
        put = (await service.http.put("/uploads/a.zip", content=b"PK", headers=sent)).status_code
        return {*codes, put}, (await service.status(request))["status"]

    codes, status = signed_in(change)
    assert codes <= {401, 403} and status != "COMPLETED"


def test_a_session_whose_page_is_ours_cancels():
    async def change(service):
        request = await service.submitted(headers=HERE)
        answer = await service.http.post(f"/history/{request}/cancel", headers=HERE | {"Sec-Fetch-Site": "same-origin"})
        await service.look()
        return answer.status_code, answer.headers["location"] == f"/history/{request}", await service.status(request)

    code, back, status = signed_in(change)
    assert (code, back, status["status"], status["error_type"]) == (303, True, "COMPLETED", "request_cancelled")


def test_a_session_ends_in_time_with_its_key_and_when_it_is_told_to(setting, monkeypatch):
    async def look(service):
        async def code():
            return (await service.http.get("/train")).status_code

        codes = [await code()]
        setting(api_keys="second")
        codes.append(await code())
        setting(api_keys="first")
        codes.append(await code())
        with monkeypatch.context() as later:
            later.setattr(sessions.time, "time", lambda now=time.time: now() + sessions.SECONDS + 1)
            codes.append(await code())
        await service.http.post("/sign-out", headers=HERE)
        return [*codes, await code()]

    assert signed_in(look) == [200, 401, 200, 401, 401]


@pytest.mark.parametrize("value", ["", ".", "9999999999.", "9999999999.0", "x.y", "9" * 400 + ".0", "²."])
def test_a_cookie_that_is_not_ours_opens_nothing(value):
    async def look(service):
        sent = {"Cookie": f"{sessions.COOKIE}={value}".encode()}
        return (await service.http.get("/train", headers=sent)).status_code

    assert unsigned(look) == 401


def test_a_session_of_another_installation_opens_nothing(monkeypatch, tmp_path):
    async def look(service):
        monkeypatch.setenv("LTX_FLOWS_HOME", str(tmp_path / "other"))
        settings.cache_clear()
        return (await service.http.get("/train")).status_code

    assert signed_in(look) == 401


def test_people_get_a_page_to_sign_in_with_and_programs_the_challenge_as_ever():
    async def ask(service):
        person = await service.http.get("/history/x?a=1", headers={"Accept": "text/html"})
        return person, await service.http.get("/history/x")

    person, program = unsigned(ask)
    assert (person.status_code, program.status_code) == (401, 401)
    assert 'name="then" value="/history/x?a=1"' in person.text and "Basic" not in person.headers["www-authenticate"]
    assert program.headers["www-authenticate"].startswith("Basic") and "Authentication" in program.json()["detail"]


def test_who_comes_from_another_site_is_asked_again_from_here():
    async def ask(service):
        headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
        return [
            'http-equiv="refresh"' in (await service.http.get("/", headers=headers | {"Sec-Fetch-Site": site})).text
            for site in ("cross-site", "same-origin", "none")
        ]

    assert unsigned(ask) == [True, False, False]


@pytest.mark.parametrize(
    ("then", "leads"),
    [
        ("/train/av2av?again=1", "/train/av2av?again=1"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: b=c", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_to_pages_of_this_host_alone(then, leads):
    async def ask(service):
        return (await sign_in(service, then=then)).headers["location"]

    assert unsigned(ask) == leads


@pytest.mark.parametrize("key", ["", "wrong", "first "])
def test_a_wrong_key_is_told_in_words(key):
    async def ask(service):
        return await sign_in(service, key)

    answer = unsigned(ask)
    assert answer.status_code == (303 if key.strip() == "first" else 401)
    assert ("opens nothing" in answer.text) == (answer.status_code == 401)


def test_without_keys_everybody_is_in_as_before(setting):
    setting(api_keys="")

    async def ask(service):
        door = await service.http.get("/sign-in")
        return (await service.http.get("/train")).status_code, door.status_code, (await service.submit()).status_code

    assert unsigned(ask) == (200, 303, 200)


def cors(service, method="OPTIONS", origin="https://studio.example.org", **more):
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"} | (asking if method == "OPTIONS" else JSON) | more
    content = b'{"training_data_url": "https://example.com/a.zip"}' if method == "POST" else None
    return service.http.request(method, f"{APP}/extend-prefix", headers=headers, content=content)


def test_a_configured_origin_uses_the_api_with_a_key_of_its_own(setting):
    setting(allowed_origins="https://studio.example.org/, https://other.example")

    async def ask(service):
        await sign_in(service)
        asked = await cors(service)
        sent = await cors(service, "POST", Authorization="Key first")
        by_cookie = await cors(service, "POST")
        return asked, sent, by_cookie

    asked, sent, by_cookie = unsigned(ask)
    allowed = "access-control-allow-origin"
    assert (asked.status_code, asked.headers[allowed]) == (200, "https://studio.example.org")
    assert (sent.status_code, sent.headers[allowed], by_cookie.status_code) == (200, "https://studio.example.org", 401)
    assert not any("access-control-allow-credentials" in answer.headers for answer in (asked, sent))


@pytest.mark.parametrize("allowed", ["", "https://studio.example.org"])
@pytest.mark.parametrize("origin", ["https://evil.example", "https://studio.example.org.evil.example", "null"])
def test_no_other_origin_reads_or_changes_anything(setting, allowed, origin):
    setting(allowed_origins=allowed)

    async def ask(service):
        key = {"Authorization": "Key first"}
        return [await cors(service, method, origin, **key) for method in ("OPTIONS", "POST")]

    asked, sent = unsigned(ask)
    assert sent.status_code == 403
    assert not any("access-control-allow-origin" in answer.headers for answer in (asked, sent))

"""Uploads in parts: limits, what is abandoned, what no client may put together."""

import asyncio
import threading

import pytest

from flows.service import upload_register as addresses
from flows.service.routes import multipart
from schemas.settings import settings
from tests.support.service_app import JSON, api
from tests.support.uploading import (
    CONTENT,
    KEY,
    age,
    begun,
    below,
    complete,
    in_parts,
    kept,
    limited,
    of_the_api,
)

pytestmark = pytest.mark.usefixtures("two_keys")


@of_the_api
async def test_all_parts_together_have_the_limit_of_downloads(service, monkeypatch, home):
    limited(monkeypatch, 10)
    link, _, sent = await in_parts(service, _1=b"123456", _2=b"7890", _3=b"x")
    assert [part.get("partNumber") for part in sent] == [1, 2, None]
    assert "10 bytes" in sent[2]["detail"]
    assert [name[:2] for name in kept(home)] == ["1-", "2-", "be"]
    assert (await complete(service, link, sent[:2])).status_code == 200


@of_the_api
async def test_a_part_that_comes_again_has_the_room_of_the_first(service, monkeypatch):
    limited(monkeypatch, 10)
    link, _, _ = await in_parts(service, _1=b"12345678")
    codes = [
        (await service.http.put(below(link, 1), content=content)).status_code for content in (b"123456789", b"1" * 11)
    ]
    assert codes == [200, 413]


@of_the_api
async def test_a_part_that_nobody_expects_is_refused_before_it_comes(service):
    async def never():
        raise AssertionError("the body was asked for")
        yield b""

    single = (await begun(service))["upload_url"]
    assert (await service.http.put(below(single, 1), content=never())).status_code == 404


@of_the_api
async def test_parts_that_come_together_have_the_limit_together(service, monkeypatch):
    limited(monkeypatch, 10)
    link = (await begun(service, "initiate-multipart"))["upload_url"]
    opened = asyncio.Event()

    async def slowly():
        yield b"123456"
        await opened.wait()

    first, second = (asyncio.create_task(service.http.put(below(link, n), content=slowly())) for n in (1, 2))
    await asyncio.sleep(0.1)
    opened.set()
    assert 413 in {(await first).status_code, (await second).status_code}


@pytest.mark.parametrize("number", ["0", "10001", "x"])
def test_parts_have_numbers_from_one_to_ten_thousand(number):
    @of_the_api
    async def test(service):
        link, _, _ = await in_parts(service)
        assert (await service.http.put(below(link, number), content=b"x")).status_code == 422

    test(None, None)


@of_the_api
async def test_a_body_that_is_no_file_keeps_its_limit(service, monkeypatch):
    link, _, sent = await in_parts(service, _1=CONTENT)
    monkeypatch.setenv("LTX_FLOWS_MAX_BODY_BYTES", "200")
    settings.cache_clear()
    large = [{"partNumber": 1, "etag": sent[0]["etag"]}] * 5
    codes = [(await complete(service, link, large)).status_code]
    codes += [(await service.http.put(below(link, 2), content=b"x" * 300)).status_code]
    told = {"file_name": "x" * 300}
    codes += [(await service.http.post("/storage/upload/initiate", json=told, headers=KEY)).status_code]
    assert codes == [413, 200, 413]


@of_the_api
async def test_an_empty_upload_is_refused_however_it_comes(service):
    single, (link, _, _) = (await begun(service))["upload_url"], await in_parts(service)
    answers = [
        await service.http.put("/uploads/a.zip", headers=KEY),
        await service.http.post("/files/upload", headers=KEY),
        await service.http.put(single),
        await service.http.put(below(link, 1)),
        await complete(service, link, []),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    assert {answer.json()["detail"][0]["type"] for answer in answers[:4]} == {"file_too_small"}


@of_the_api
async def test_what_was_abandoned_for_a_day_is_removed_by_the_next_one(service, home):
    old, recent = [await in_parts(service, _1=CONTENT) for _ in range(2)]
    age(home / "store" / "parts" / old[0].split("/")[4])
    await begun(service, "initiate-multipart")
    codes = [(await complete(service, link, sent)).status_code for link, _, sent in (old, recent)]
    assert codes == [404, 200]


@of_the_api
async def test_what_was_abandoned_is_removed_when_the_service_starts(service, home, monkeypatch):
    link, address, _ = await in_parts(service, _1=CONTENT)
    age(home / "store" / "parts" / link.split("/")[4])
    monkeypatch.setattr(addresses, "UNFINISHED_SECONDS", -1)
    async with api():
        while addresses.find(addresses.told_id(address)):
            await asyncio.sleep(0.01)
    assert kept(home) == []


@of_the_api
async def test_putting_a_file_together_keeps_nobody_waiting(service, monkeypatch):
    link, _, sent = await in_parts(service, _1=CONTENT)
    begun, answered = threading.Event(), threading.Event()
    joined = multipart.parts.keep_joined
    monkeypatch.setattr(multipart.parts, "keep_joined", lambda *of: begun.set() or (answered.wait(5) and joined(*of)))
    completing = asyncio.create_task(complete(service, link, sent))
    await asyncio.to_thread(begun.wait, 5)
    await service.http.get("/.well-known/jwks.json")
    answered.set()
    assert (await completing).status_code == 200


@pytest.mark.parametrize("told", [b"", b"[]", b'{"parts": 1}', b'{"parts": [{"partNumber": 1}]}', b"\xff", b"9" * 5000])
def test_a_list_of_parts_that_is_none_is_told_in_the_hosted_shape(told):
    @of_the_api
    async def test(service):
        link, _, _ = await in_parts(service, _1=CONTENT)
        answer = await service.http.post(below(link, "complete"), content=told, headers=JSON)
        assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, "body")

    test(None, None)

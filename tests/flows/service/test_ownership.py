"""What was uploaded belongs to the key that it came with, counts for it, and S3 is open only where the settings say."""

import asyncio
import base64
from hashlib import sha256
from uuid import uuid4

import pytest
from sqlalchemy import insert, text

from flows.service import owned, quota
from flows.service import upload_register as addresses
from flows.service.app import create_app
from schemas.media import MediaFile
from schemas.settings import settings
from tasks.ledger.database import ledger as database
from tasks.migrations.versions import v0005_owned
from tasks.storage.store import media_address, store
from tests.support.service_app import APP
from tests.support.uploading import CONTENT, KEY, OTHER, below, complete, in_parts, of_the_api, submit

SHA256 = sha256(CONTENT).hexdigest()
ADDRESS = f"upload://{SHA256}/clips.zip"
NOT_YOURS = "clips.zip: nothing was uploaded with this key under this address"


pytestmark = pytest.mark.usefixtures("two_keys")


def bounded(monkeypatch, size):
    monkeypatch.setenv("LTX_FLOWS_UPLOAD_QUOTA_BYTES", str(size))
    settings.cache_clear()


def owner_of(key):
    return sha256(key["Authorization"].removeprefix("Key ").encode()).hexdigest()[:32]


def used(key=KEY):
    return owned.used(owner_of(key))


def kept():
    return {file.address for file in store().place.files() if file.kind in ("files", "parts")}


async def by_put(service, content, key=KEY):
    return await service.http.put("/uploads/clips.zip", content=content, headers=key)


async def as_fal(service, content, key=KEY):
    return await service.http.post("/files/upload", content=content, headers=key | {"X-Fal-File-Name": "clips.zip"})


async def by_link(service, content, key=KEY):
    links = (await service.http.post("/storage/upload/initiate", json={}, headers=key)).json()
    return await service.http.put(links["upload_url"], content=content)


async def by_parts(service, content, key=KEY):
    links = (await service.http.post("/storage/upload/initiate-multipart", json={}, headers=key)).json()
    part = await service.http.put(below(links["upload_url"], 1), content=content)
    return await complete(service, links["upload_url"], [part.json()]) if part.status_code == 200 else part


async def within_a_request(service, content, key=KEY):
    return await submit(service, f"data:application/zip;base64,{base64.b64encode(content).decode()}", key)


WAYS = [by_put, as_fal, by_link, by_parts, within_a_request]


# --- who may train on it --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_only_the_key_that_content_came_with_may_train_on_it_however_it_came(way):
    @of_the_api
    async def test(service):
        assert (await way(service, CONTENT)).status_code == 200
        assert (await submit(service, ADDRESS)).status_code == 200
        refused = await submit(service, ADDRESS, OTHER)
        assert (refused.status_code, refused.json()["detail"][0]["msg"]) == (422, NOT_YOURS)
        assert (await way(service, CONTENT, OTHER)).status_code == 200
        assert (await submit(service, ADDRESS, OTHER)).status_code == 200

    test(None, None)


@of_the_api
async def test_nobody_learns_whether_somebody_else_has_uploaded_a_content(service):
    await by_put(service, CONTENT)
    unknown = f"upload://{'0' * 64}/clips.zip"
    answers = [await submit(service, url, OTHER) for url in (ADDRESS, unknown)]
    [[first], [second]] = [answer.json()["detail"] for answer in answers]
    assert first == second
    shown = await submit(service, "https://x.example/a.zip", OTHER, validation=[{"prompt": "on", "video_url": ADDRESS}])
    assert [fault["loc"] for fault in shown.json()["detail"]] == [["body", "validation", 0, "video_url"]]


@of_the_api
async def test_plan_reads_nobody_elses_uploads_either(service):
    await by_put(service, CONTENT)
    plan = await service.http.post(f"{APP}/plan/extend-prefix", json={"training_data_url": ADDRESS}, headers=OTHER)
    assert (plan.status_code, plan.json()["detail"][0]["msg"]) == (422, NOT_YOURS)


@of_the_api
async def test_of_an_upload_of_ones_own_that_was_pruned_it_is_said_that_it_is_gone(service):
    await by_put(service, CONTENT)
    store().remove(media_address(SHA256))
    assert "upload it again" in (await submit(service, ADDRESS)).json()["detail"][0]["msg"]


@pytest.mark.usefixtures("ledger")
def test_uploads_of_the_version_before_belong_to_who_began_them():
    uploads = [("me", "a.zip", SHA256), ("me", "b.zip", SHA256), ("you", "c.zip", SHA256), ("me", "d.zip", None)]
    with database() as connection:
        for owner, name, content in uploads:
            upload = addresses.Upload(id=uuid4().hex, owner=owner, name=name, sha256=content)
            at = addresses.datetime.now(addresses.UTC)
            connection.execute(insert(addresses.UPLOADS).values(**upload.model_dump(), at=at))
        gone = ("DROP TABLE owned", "DROP TABLE parts", "ALTER TABLE requests DROP COLUMN priority")
        for command in (*gone, "UPDATE alembic_version SET version_num = '%s'"):
            connection.execute(text(command.replace("%s", v0005_owned.down_revision)))
    assert [owned.owns(owner, SHA256) for owner in ("me", "you", "else")] == [True, True, False]
    assert owned.used("me") == 0  # until somebody asks how large it is


# --- how much of it a key may keep ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_more_than_a_key_may_keep_is_refused_however_it_comes_and_leaves_nothing(monkeypatch, way):
    @of_the_api
    async def test(service, monkeypatch):
        bounded(monkeypatch, 2 * len(CONTENT) - 1)
        assert (await way(service, CONTENT)).status_code == 200
        before = kept()
        answer = await way(service, CONTENT[::-1])
        assert (answer.status_code, used()) == (413, len(CONTENT))
        assert {address for address in kept() - before if not address.endswith("/begun")} == set()
        assert (await way(service, CONTENT[::-1], OTHER)).status_code == 200

    test(monkeypatch, None)


@of_the_api
async def test_the_refusal_names_the_bound_what_is_used_the_setting_and_the_remedy(service, monkeypatch):
    bounded(monkeypatch, 30)
    await by_put(service, CONTENT)
    answer = await by_put(service, CONTENT[::-1])
    assert answer.json()["detail"] == (
        "this key keeps 23 bytes of uploads, and LTX_FLOWS_UPLOAD_QUOTA_BYTES allows it 30; ask whoever runs the "
        "service for more, or wait until unused files are pruned"
    )


@of_the_api
async def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(service, monkeypatch):
    bounded(monkeypatch, 10)
    part = below((await in_parts(service))[0], 1)
    for place in ("/uploads/a.zip", part):
        answer = await service.http.put(place, content=never(), headers=KEY | {"Content-Length": "11"})
        assert (answer.status_code, "ALLOWS" in answer.text.upper()) == (413, True)


async def never():
    raise AssertionError("the body was asked for")
    yield b""


@of_the_api
async def test_a_body_that_does_not_say_how_large_it_is_is_refused_as_soon_as_it_is_too_large(service, monkeypatch):
    bounded(monkeypatch, 10)
    come = []

    async def endless():
        while True:
            come.append(1)
            yield b"1234"

    assert (await service.http.put("/uploads/a.zip", content=endless(), headers=KEY)).status_code == 413
    assert len(come) == 3


@of_the_api
async def test_the_same_content_counts_once_for_each_key_that_uploads_it(service, monkeypatch):
    bounded(monkeypatch, 2 * len(CONTENT))
    codes = [(await by_put(service, CONTENT, key)).status_code for key in (KEY, KEY, OTHER)]
    assert (codes, used(), used(OTHER)) == ([200] * 3, len(CONTENT), len(CONTENT))


@of_the_api
async def test_parts_of_an_unfinished_upload_count_and_count_once_when_it_is_complete(service, monkeypatch):
    bounded(monkeypatch, len(CONTENT) + 2)
    link, _, sent = await in_parts(service, _1=CONTENT[:9], _2=CONTENT[9:])
    assert [(await by_put(service, content)).status_code for content in (b"123", b"12")] == [413, 200]
    again = await service.http.put(below(link, 1), content=CONTENT[:9])
    assert (again.status_code, (await complete(service, link, sent)).status_code) == (200, 200)
    assert used() == len(CONTENT) + 2


@of_the_api
async def test_files_that_pruning_has_removed_count_no_more(service, monkeypatch):
    bounded(monkeypatch, len(CONTENT))
    await by_put(service, CONTENT)
    assert (await by_put(service, CONTENT[::-1])).status_code == 413
    store().remove(media_address(SHA256))
    assert [(await way(service, CONTENT[::-1])).status_code for way in (by_put, by_parts)] == [200, 413]
    assert used() == len(CONTENT)


@pytest.mark.usefixtures("ledger")
def test_what_is_not_known_to_have_a_size_is_asked_for_it_when_room_becomes_scarce(monkeypatch, tmp_path):
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    store().keep(tmp_path / "clips.zip", SHA256)
    owned.add("me", MediaFile(name="clips.zip", sha256=SHA256, size=0))
    bounded(monkeypatch, 40)
    assert quota.room_for_file("me", 40).size == 40
    assert quota.room_for_file("me", 41).size == 40 - len(CONTENT)
    assert quota.room_for_file("me", None).size == 40 - len(CONTENT)


def test_content_that_a_key_keeps_already_stays_its_own_when_there_is_too_much(monkeypatch):
    file = MediaFile(name="clips.zip", sha256=SHA256, size=23)
    owned.add("me", file)
    bounded(monkeypatch, 10)
    quota.own("me", file)
    assert owned.owns("me", SHA256)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("how", ["files", "parts"])
def test_uploads_that_come_together_have_the_bound_together(monkeypatch, how):
    @of_the_api
    async def test(service, monkeypatch):
        bounded(monkeypatch, 10)
        links = [(await in_parts(service))[0] for _ in range(2)]
        places = [below(link, 1) for link in links] if how == "parts" else ["/uploads/a.zip", "/uploads/b.zip"]
        opened = asyncio.Event()

        async def slowly(first):
            yield first
            await opened.wait()

        coming = [
            asyncio.create_task(service.http.put(place, content=slowly(first), headers=KEY))
            for place, first in zip(places, (b"123456", b"654321"), strict=True)
        ]
        await asyncio.sleep(0.2)
        opened.set()
        codes = {(await each).status_code for each in coming}
        assert (413 in codes, codes <= {200, 413}, used() <= 10) == (True, True, True)

    test(monkeypatch, None)


def test_the_document_says_that_uploads_may_be_too_much():
    [upload] = [path for path in create_app().openapi()["paths"].items() if path[0] == "/uploads/{name}"]
    assert "LTX_FLOWS_UPLOAD_QUOTA_BYTES" in upload[1]["put"]["responses"]["413"]["description"]

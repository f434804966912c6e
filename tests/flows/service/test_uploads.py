"""Uploads of clients without a bucket: told addresses, signed links, parts; a request names them by their content."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
import uvicorn

from flows.service import upload_register as addresses
from flows.service.app import create_app
from flows.service.routes import multipart
from tasks.sources.fetch import fetch
from tests.support.clips import tone, zipped
from tests.support.service_app import APP, BASE, FakeRuns
from tests.support.uploading import (
    CONTENT,
    KEY,
    OTHER,
    begun,
    below,
    complete,
    in_parts,
    kept,
    of_the_api,
    submit,
)

CLIENTS = Path(__file__).parents[2] / "clients"


pytestmark = pytest.mark.usefixtures("two_keys")


async def trained_on(service, url):
    """The content that a submitted run would read."""
    answer = (await submit(service, url)).json()
    entry = service.app.state.watcher.entries[answer["request_id"]]
    return fetch(entry.body["training_data_url"], ("training_data_url",))


@of_the_api
async def test_a_signed_link_takes_a_file_without_a_key_and_its_address_is_trained_on(service):
    links = await begun(service)
    assert links["file_url"].startswith(f"{BASE}/uploads/") and links["file_url"].endswith("/my%20clips.zip")
    assert (await service.http.put(links["upload_url"], content=CONTENT)).status_code == 200
    file = await trained_on(service, links["file_url"])
    assert (file.name, file.sha256) == ("my clips.zip", sha256(CONTENT).hexdigest())


@of_the_api
async def test_the_same_content_is_the_same_request_wherever_it_was_uploaded_to(service):
    addressed = []
    for _ in range(2):
        links = await begun(service)
        await service.http.put(links["upload_url"], content=CONTENT)
        request = (await submit(service, links["file_url"])).json()["request_id"]
        addressed.append(service.app.state.watcher.entries[request].body["training_data_url"])
    assert addressed == [f"upload://{sha256(CONTENT).hexdigest()}/my%20clips.zip"] * 2


@of_the_api
async def test_a_link_takes_nothing_for_another_upload_or_name_and_not_for_longer(service, monkeypatch):
    first, second = (await begun(service))["upload_url"], (await begun(service))["upload_url"]
    others = (first.split("/")[4], second.split("/")[4])
    wrong = [
        first.replace(*others),
        first.replace("clips", "films"),
        first.replace("expires=", "expires=9"),
        first + "0",
    ]
    assert [(await service.http.put(link, content=CONTENT)).status_code for link in wrong] == [403] * 4
    monkeypatch.setattr("flows.service.links.time.time", lambda: 9e12)
    assert (await service.http.put(first, content=CONTENT)).status_code == 403


@of_the_api
async def test_parts_come_in_any_order_and_a_part_that_comes_again_replaces_the_first(service, home):
    link, address, sent = await in_parts(service, _3=CONTENT[16:], _1=b"typo", _2=CONTENT[9:16])
    again = (await service.http.put(below(link, 1), content=CONTENT[:9])).json()
    assert [name[:2] for name in kept(home)] == ["1-", "2-", "3-", "be"]
    assert (await complete(service, link, [sent[0], again, sent[2]])).status_code == 200
    assert (await trained_on(service, address)).sha256 == sha256(CONTENT).hexdigest()
    assert kept(home) == []


@of_the_api
async def test_completing_twice_is_completing_once(service, monkeypatch):
    link, address, sent = await in_parts(service, _1=CONTENT)
    joined, joins = multipart.parts.keep_joined, []
    monkeypatch.setattr(multipart.parts, "keep_joined", lambda *of: joins.append(time.sleep(0.1)) or joined(*of))
    answers = await asyncio.gather(*(complete(service, link, sent) for _ in range(3)))
    assert {(answer.status_code, answer.json()["url"]) for answer in answers} == {(200, address)}
    assert len(joins) == 1
    late = await service.http.put(below(link, 1), content=CONTENT)
    assert (late.status_code, (await trained_on(service, address)).size) == (404, len(CONTENT))


@of_the_api
async def test_missing_parts_are_named_and_may_still_come(service):
    link, address, sent = await in_parts(service, _1=CONTENT[:9], _4=CONTENT[16:])
    answer = await complete(service, link, sent)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "parts"])
    assert "not with this etag: 2, 3;" in answer.json()["detail"][0]["msg"]
    wrong = await complete(service, link, [sent[0] | {"etag": "../../ledger.db"}])
    assert "not with this etag: 1;" in wrong.json()["detail"][0]["msg"]
    unfinished = (await submit(service, address)).json()["detail"][0]
    assert unfinished["loc"] == ["body", "training_data_url"]
    assert (unfinished["type"], unfinished["msg"]) == (
        "file_download_error",
        "my clips.zip: its upload is not complete",
    )


@of_the_api
async def test_fal_clients_parts_need_the_key_that_began(service):
    told = (await service.http.post("/files/upload/multipart", headers=KEY | {"X-Fal-File-Name": "a.zip"})).json()
    place = f"{told['access_url']}/multipart/{told['uploadId']}"
    codes = [(await service.http.put(f"{place}/1", content=b"x", headers=key)).status_code for key in ({}, OTHER)]
    part = await service.http.put(f"{place}/1", content=CONTENT, headers=KEY)
    sent = {"parts": [{"partNumber": 1, "etag": part.headers["etag"]}]}
    codes += [
        (await service.http.post(f"{place}/complete", json=sent, headers=key)).status_code for key in (OTHER, KEY)
    ]
    assert codes == [401, 404, 404, 200]
    assert (await trained_on(service, told["access_url"])).name == "a.zip"


@of_the_api
async def test_only_who_uploaded_may_train_on_it_and_every_wrong_address_is_told(service):
    links = await begun(service)
    await service.http.put(links["upload_url"], content=CONTENT)
    unknown = f"{BASE}/uploads/{'0' * 32}/opening.mp4"
    shown = [{"prompt": "on", "video_url": unknown}]
    answer = await submit(service, links["file_url"], OTHER, validation=shown)
    assert answer.status_code == 422
    faults = [(fault["loc"], fault["type"]) for fault in answer.json()["detail"]]
    assert faults == [
        (["body", "training_data_url"], "file_download_error"),
        (["body", "validation", 0, "video_url"], "file_download_error"),
    ]


@of_the_api
async def test_an_address_of_somebody_elses_is_downloaded_as_any_other(service):
    url = f"https://example.com/uploads/{'0' * 32}/clips.zip"
    request = (await submit(service, url)).json()["request_id"]
    assert service.app.state.watcher.entries[request].body["training_data_url"] == url


@of_the_api
async def test_a_file_that_was_pruned_is_refused_at_submission(service, home):
    links = await begun(service)
    await service.http.put(links["upload_url"], content=CONTENT)
    shutil.rmtree(home / "store")
    assert "upload it again" in (await submit(service, links["file_url"])).json()["detail"][0]["msg"]


@of_the_api
async def test_plan_reads_uploads_as_submit_does(service, home):
    home.mkdir(exist_ok=True)
    links = await begun(service)
    archive = zipped({name: tone(home / name, 1.2) for name in ("a.wav", "b.wav")})
    plan = f"{APP}/plan/audio-extend-prefix"
    body = {"training_data_url": links["file_url"], "audio_duration_seconds": 1.0, "conditioning_seconds": 0.4}
    before = await service.http.post(plan, json=body, headers=KEY)
    await service.http.put(links["upload_url"], content=archive)
    after = await service.http.post(plan, json=body, headers=KEY)
    assert (before.status_code, before.json()["detail"][0]["type"]) == (422, "file_download_error")
    assert (after.status_code, after.json().get("kept")) == (200, 2)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\clips.zip", "clips.zip"),
        ("..", "file"),
        ("a\0\nb.zip", "ab.zip"),
        ("", "file"),
    ],
)
def test_names_are_plain(said, name):
    assert addresses.plain_name(said) == name
    assert addresses.plain_name("x" * 400 + ".zip").endswith("x.zip") and len(addresses.plain_name("x" * 400)) == 255


@pytest.fixture
def origin(home):
    """The application on loopback, for clients in processes of their own."""
    app = create_app(FakeRuns())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(("client", "parts"), [("python_upload.py", 8), ("javascript_upload.mjs", 10)])
def test_stock_clients_upload_whole_files_and_parts(origin, tmp_path, monkeypatch, client, parts):
    program = sys.executable if client.endswith("py") else shutil.which("node")
    if program is None or not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the JavaScript client is not installed: npm ci --prefix tests/clients")
    numbers, add = [], multipart.parts.add
    monkeypatch.setattr(multipart.parts, "add", lambda *part: numbers.append(part[2]) or add(*part))
    (tmp_path / "clips.zip").write_bytes(os.urandom(100_000))
    command = [program, CLIENTS / client, origin, tmp_path / "clips.zip"]
    done = subprocess.run(command, env=os.environ | {"FAL_KEY": "mine"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    digest = sha256((tmp_path / "clips.zip").read_bytes()).hexdigest()
    for url in json.loads(done.stdout).values():
        told = addresses.told_id(url)
        assert (addresses.find(told).sha256 if told else url.split("/")[2]) == digest
    assert sorted(numbers) == list(range(1, parts + 1))

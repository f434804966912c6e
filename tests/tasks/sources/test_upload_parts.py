"""Parts of uploads lie in the store, so that every process of the API serves every upload; a local one or S3."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from flows.service import owned
from flows.service import upload_register as addresses
from flows.service.routes import multipart
from schemas.errors import StoreUnavailable
from schemas.settings import settings
from tasks.retention import prune
from tasks.sources import upload_parts as parts
from tasks.storage.folder import Place
from tasks.storage.store import media_address, store
from tests.support.postgres import free_port
from tests.support.s3 import ready
from tests.support.service_app import api

CONTENT = b"PK first, second, third"
SHM = Path("/dev/shm")


@pytest.fixture
def begun():
    upload = addresses.announce("me", "clips.zip")
    parts.begin(upload.id)
    return upload


def add(upload, number, content, folder):
    path = folder / "coming"
    path.write_bytes(content)
    return parts.add(path, upload.id, number)


def kept():
    return sorted(file.address.split("/")[2] for file in store().place.files("parts"))


def digest(content):
    return sha256(content).hexdigest()


@pytest.mark.usefixtures("kind")
def test_parts_are_files_of_the_store_and_are_put_together_in_their_order(begun, tmp_path):
    etags = {
        number: add(begun, number, content, tmp_path) for number, content in ((2, b"two"), (10, b"x"), (1, b"one"))
    }
    assert kept() == [f"1-{digest(b'one')}", f"10-{digest(b'x')}", f"2-{digest(b'two')}", "begun"]
    assert parts.missing(begun.id, etags) == [3, 4, 5, 6, 7, 8, 9]
    file = parts.keep_joined(begun.id, "clips.zip", etags)
    assert (file.sha256, store().size(media_address(file.sha256))) == (digest(b"onetwox"), 7)
    parts.remove(begun.id)
    assert kept() == []


@pytest.mark.usefixtures("kind", "ledger")
def test_a_part_that_comes_again_takes_the_place_of_the_first_and_is_counted_once(begun, tmp_path):
    for content in (b"typo!", b"one", b"one"):
        add(begun, 1, content, tmp_path)
    add(begun, 2, b"second", tmp_path)
    assert kept() == [f"1-{digest(b'one')}", f"2-{digest(b'second')}", "begun"]
    assert (parts.sizes(begun.id, 1), owned.used("me"), owned.used("you")) == ((9, 3), 9, 0)
    parts.drop(begun.id, 2)
    assert (parts.sizes(begun.id, 2), kept()) == ((3, 0), [f"1-{digest(b'one')}", "begun"])


def test_a_part_is_moved_into_a_local_store_and_not_copied(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "copyfile", None)
    (tmp_path / "coming").write_bytes(b"one")
    before = (tmp_path / "coming").stat().st_ino
    etag = parts.add(tmp_path / "coming", begun.id, 1)
    assert Path(store().root, "parts", begun.id, f"1-{etag}").stat().st_ino == before


@pytest.mark.skipif(not SHM.is_dir(), reason="there is no other disk")
def test_a_store_on_another_disk_gets_a_copy(tmp_path):
    folder = SHM / uuid4().hex
    try:
        (tmp_path / "coming").write_bytes(b"one")
        Place(str(folder)).take(tmp_path / "coming", "parts/a/1-b")
        assert (folder / "parts/a/1-b").read_bytes() == b"one"
    finally:
        shutil.rmtree(folder)


@pytest.mark.usefixtures("kind")
def test_a_part_that_comes_when_none_are_expected_any_more_leaves_nothing(begun, tmp_path):
    parts.remove(begun.id)
    with pytest.raises(FileNotFoundError):
        add(begun, 1, b"late", tmp_path)
    assert (kept(), parts.come(begun.id)) == ([], {})


@pytest.mark.usefixtures("kind")
def test_a_part_that_is_read_cut_off_becomes_no_file(begun, tmp_path):
    etag = add(begun, 1, CONTENT, tmp_path)
    store().place.write(CONTENT[:5], f"parts/{begun.id}/1-{etag}")
    with pytest.raises(StoreUnavailable, match="gave 5 of the 23 bytes of a part; complete the upload again"):
        parts.keep_joined(begun.id, "clips.zip", {1: etag})


@pytest.mark.usefixtures("kind")
def test_pruning_takes_what_was_abandoned_for_a_day_and_leaves_what_goes_on(begun, tmp_path, monkeypatch):
    add(begun, 1, CONTENT, tmp_path)
    assert (prune(older_than=-60, keep_runs=60).files, len(kept())) == (0, 2)
    monkeypatch.setattr(parts, "DAY", -60)
    assert (prune(older_than=-60, keep_runs=60), kept()) == ((2, len(CONTENT) + 2), [])


@pytest.mark.usefixtures("kind", "ledger")
def test_what_was_abandoned_is_not_counted_any_more(begun, tmp_path, monkeypatch):
    add(begun, 1, CONTENT, tmp_path)
    addresses.forget_abandoned()
    assert owned.used("me") == len(CONTENT)
    monkeypatch.setattr(parts, "DAY", -60)
    addresses.forget_abandoned()
    assert (owned.used("me"), kept()) == (0, [])


def test_parts_of_the_version_that_kept_them_under_home_go_after_a_day(home):
    for name, days in (("old", 2), ("young", 0)):
        path = home / "uploads" / name / "1-etag"
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        then = time.time() - days * parts.DAY
        os.utime(path, (then, then))
    addresses.forget_abandoned()
    assert [path.name for path in (home / "uploads").iterdir()] == ["young"]


def test_what_is_being_put_together_is_not_abandoned(begun, tmp_path):
    etag = add(begun, 1, CONTENT, tmp_path)
    then = time.time() - 2 * parts.DAY
    for path in Path(store().root, "parts", begun.id).iterdir():
        os.utime(path, (then, then))
    with parts.alone(begun.id):
        addresses.forget_abandoned()
        assert parts.keep_joined(begun.id, "clips.zip", {1: etag}).size == len(CONTENT)


def test_a_part_waits_for_its_turn_at_a_database_file_that_others_write_to(begun, tmp_path):
    writing = sqlite3.connect(settings().ledger_url.removeprefix("sqlite:///"), check_same_thread=False)
    writing.execute("BEGIN IMMEDIATE")
    done = threading.Timer(6, writing.rollback)  # by default SQLite gives up after five seconds
    done.start()
    try:
        add(begun, 1, CONTENT, tmp_path)
    finally:
        done.join()
        writing.close()
    assert parts.come(begun.id)[1].size == len(CONTENT)


# --- several processes ----------------------------------------------------------------------------------------------


@contextmanager
def not_alone(upload_id):
    """As on two machines, which do not see each other's locks."""
    parts.check_begun(upload_id)
    yield


async def completed_twice(monkeypatch, **changes):
    """What two machines answer that complete an upload at the same time."""
    monkeypatch.setattr(multipart.parts, "alone", not_alone)
    for name, change in changes.items():
        monkeypatch.setattr(multipart.parts, name, change(getattr(multipart.parts, name)))
    async with api() as service:
        links = (await service.http.post("/storage/upload/initiate-multipart", json={"file_name": "a.zip"})).json()
        path, _, query = links["upload_url"].partition("?")
        sent = [(await service.http.put(f"{path}/1?{query}", content=CONTENT)).json()]
        completing = (service.http.post(f"{path}/complete?{query}", json={"parts": sent}) for _ in range(2))
        answers = await asyncio.gather(*completing)
        upload = addresses.find(addresses.told_id(links["file_url"]))
    return [answer.status_code for answer in answers], upload.sha256, kept()


def together(joined):
    """Neither ends before the other has all parts."""
    barrier = threading.Barrier(2)

    def join(*of):
        file = joined(*of)
        barrier.wait(10)
        return file

    return join


def one_after_the_other(step):
    """The second one goes on when the first has ended."""
    ended, lock = threading.Event(), threading.Lock()

    def do(upload_id, *more):
        if lock.acquire(blocking=False):
            threading.Thread(target=lambda: (wait_until_gone(upload_id), ended.set())).start()
        else:
            ended.wait(10)
        return step(upload_id, *more)

    return do


def wait_until_gone(upload_id):
    while store().size(f"parts/{upload_id}/begun") is not None:
        time.sleep(0.01)


@pytest.mark.usefixtures("kind", "ledger")
@pytest.mark.parametrize(
    "changes", [{"keep_joined": together}, {"keep_joined": one_after_the_other}], ids=["both", "late"]
)
def test_two_machines_that_complete_an_upload_at_once_both_answer_well(monkeypatch, changes):
    assert asyncio.run(completed_twice(monkeypatch, **changes)) == ([200, 200], digest(CONTENT), [])


@pytest.mark.usefixtures("ledger")
def test_a_machine_that_finds_no_parts_as_another_has_completed_the_upload_answers_well(monkeypatch):
    changes = {"missing": one_after_the_other}
    assert asyncio.run(completed_twice(monkeypatch, **changes)) == ([200, 200], digest(CONTENT), [])


SERVE = (
    "import sys, uvicorn; from flows.service.app import create_app; from tests.support.service_app import FakeRuns\n"
    "uvicorn.run(create_app(FakeRuns()), port=int(sys.argv[1]), log_level='warning')"
)


@pytest.fixture
def machines(kind, ledger, home, tmp_path):
    """Two API processes with a HOME each: they share a database and a store."""
    told = {"DATABASE_URL": settings().ledger_url, "STORE": settings().store_url}
    addresses.forget_abandoned()  # which makes the database's tables
    processes, urls = [], []
    for name in ("first", "second"):
        shared = {f"LTX_FLOWS_{key}": value for key, value in (told | {"HOME": str(tmp_path / name)}).items()}
        port = free_port()
        processes.append(subprocess.Popen([sys.executable, "-c", SERVE, str(port)], env=os.environ | shared))
        urls.append(f"http://127.0.0.1:{port}")
    try:
        yield [ready(url) for url in urls]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


@pytest.fixture
def clients(machines):
    """A client of each."""
    with (
        httpx.Client(base_url=machines[0], trust_env=False, timeout=60) as first,
        httpx.Client(base_url=machines[1], trust_env=False, timeout=60) as second,
    ):
        yield first, second


EVERYWHERE = [
    ("s3", "postgresql"),
    ("local", "sqlite"),
    pytest.param("s3", "sqlite", marks=pytest.mark.long),
    pytest.param("local", "postgresql", marks=pytest.mark.long),
]


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize(("kind", "ledger"), EVERYWHERE, indirect=True)
def test_parts_may_go_to_either_of_two_machines_and_be_completed_on_both(machines, clients):
    first, second = clients
    links = first.post("/storage/upload/initiate-multipart", json={"file_name": "clips.zip"}).json()
    path, _, query = links["upload_url"].removeprefix(machines[0]).partition("?")
    places = [(second, 2, CONTENT[9:16]), (first, 1, CONTENT[:9]), (second, 3, CONTENT[16:])]
    sent = [client.put(f"{path}/{number}?{query}", content=content).json() for client, number, content in places]
    with ThreadPoolExecutor() as pool:
        complete = [pool.submit(each.post, f"{path}/complete?{query}", json={"parts": sent}) for each in clients]
    assert [each.result().status_code for each in complete] == [200, 200]
    address = links["file_url"].replace(*machines)
    assert second.post("/fal-ai/ltx23-trainer-v2/extend-prefix", json={"training_data_url": address}).status_code == 200
    assert (store().size(media_address(digest(CONTENT))), kept()) == (len(CONTENT), [])

"""Downloads from s3, against a real S3 server on this machine."""

import hashlib

import pytest

from schemas.errors import DownloadInterrupted
from schemas.rejections import TRAINING_DATA, DownloadRejected
from schemas.settings import settings
from tasks.sources.fetch import fetch

CONTENT = bytes(range(256)) * 4096 * 6  # 6 MiB: more than one block


def refused(url):
    with pytest.raises(DownloadRejected) as caught:
        fetch(url, TRAINING_DATA)
    [detail] = caught.value.details()
    assert (detail.loc, detail.type) == (("body", "training_data_url"), "file_download_error")
    return str(caught.value)


def test_an_object_is_known_by_its_content_and_its_bytes_are_told(s3):
    s3.pipe("data/sets/clips.zip", CONTENT)
    seen = []
    file = fetch("s3://data/sets/clips.zip", TRAINING_DATA, lambda done, total: seen.append((done, total)))
    assert (file.name, file.sha256) == ("clips.zip", hashlib.sha256(CONTENT).hexdigest())
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) == 6


def test_an_object_uploaded_in_parts_comes_whole(s3):
    with s3.open("data/parts.zip", "wb", block_size=5 << 20) as target:
        target.write(CONTENT)
    assert fetch("S3://data/parts.zip", TRAINING_DATA).size == len(CONTENT)


@pytest.mark.parametrize("name", ["a b.zip", "a#1.zip", "a?b.zip", "a%20b.zip", "caf\u00e9.zip"])
def test_an_objects_name_may_hold_any_character(s3, name):
    s3.pipe(f"data/{name}", b"PK")
    assert fetch(f"s3://data/{name}", TRAINING_DATA).size == 2


@pytest.mark.parametrize("url", ["s3://data/nothing.zip", "s3://nobody/clips.zip"])
def test_what_is_not_there_is_refused(s3, url):
    assert "there is no such object" in refused(url)


@pytest.mark.parametrize("url", ["s3://", "s3://data", "s3://data/", "s3:///clips.zip", "s3://No_Bucket!/clips.zip"])
def test_what_names_no_object_is_refused(s3, url):
    assert "s3://bucket/name" in refused(url) or "of this name" in refused(url)


def test_an_object_that_may_not_be_read_is_refused(s3, monkeypatch):
    import s3fs

    def denied(*words, **more):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "open", denied)
    assert "check the AWS_ variables" in refused("s3://data/private.zip")


def test_more_bytes_than_allowed_are_refused_before_one_comes(s3, monkeypatch):
    s3.pipe("data/big.zip", CONTENT)
    monkeypatch.setenv("LTX_FLOWS_MAX_DOWNLOAD_BYTES", "1000")
    settings.cache_clear()
    assert f"{len(CONTENT)} bytes, at most 1000 are allowed" in refused("s3://data/big.zip")


def test_a_login_page_in_place_of_the_object_is_refused(s3):
    s3.pipe("data/page.zip", b"<!doctype html><html>")
    assert "web page" in refused("s3://data/page.zip")


def test_a_server_that_does_not_answer_is_an_interruption(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(s3).clear_instance_cache()
    with pytest.raises(DownloadInterrupted, match=r"clips.zip"):
        fetch("s3://data/clips.zip", TRAINING_DATA)

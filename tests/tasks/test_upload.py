"""Finished files arrive whole, on a local folder and on S3, and leave nothing half uploaded."""

import os
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from pydantic import ValidationError

from schemas.errors import StoreFull, StoreRefused, StoreUnavailable
from schemas.settings import Settings, settings
from tasks.retention import DAY, prune
from tasks.storage.folder import Place
from tasks.upload import Outputs
from tests.support.faults import FAULTS, Faulty, Trouble

CONTENT = bytes(range(256)) * 4096 * 20  # 20 MiB: more than one part


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def on_s3(s3, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", f"s3://data/{uuid4()}")
    monkeypatch.setenv("LTX_FLOWS_LINK_SECONDS", "90")
    settings.cache_clear()
    return s3


@pytest.fixture
def troubled(tmp_path, monkeypatch):
    """Tell what goes wrong with the outputs."""
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", f"faulty://{tmp_path}/outputs")
    settings.cache_clear()
    return lambda *trouble: monkeypatch.setattr(Faulty, "trouble", Trouble(*trouble))


def test_a_file_goes_to_a_local_folder(file, home):
    sent = Outputs("run-1").put(file, "lora.safetensors")
    assert sent.url == (home / "outputs" / "run-1" / "lora.safetensors").as_uri()
    assert (sent.file_size, sent.content_type) == (len(CONTENT), "application/octet-stream")


@pytest.mark.usefixtures("on_s3")
def test_a_link_opens_the_file_without_credentials_for_as_long_as_was_set(file):
    sent = Outputs("run-1").put(file, "lora.safetensors")
    assert parse_qs(urlsplit(sent.url).query)["X-Amz-Expires"] == ["90"]
    assert httpx.get(sent.url, trust_env=False).content == CONTENT


@pytest.mark.parametrize("seconds", ["59", "604801"])
def test_links_last_from_a_minute_to_seven_days(seconds, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_LINK_SECONDS", seconds)
    with pytest.raises(ValidationError, match="link_seconds"):
        Settings()


def test_doing_it_again_replaces_it_by_the_same(file, on_s3):
    first, again = (Outputs("run-1").put(file, "lora.safetensors") for _ in range(2))
    assert first.file_size == again.file_size
    assert len(on_s3.find(settings().outputs_url)) == 1


def test_what_arrives_damaged_is_no_upload(file, troubled, tmp_path, monkeypatch):
    put = Faulty.put_file

    def damaged(self, source, target, **more):
        put(self, source, target)
        Path(target).write_bytes(b"x" * len(CONTENT))

    monkeypatch.setattr(Faulty, "put_file", damaged)
    troubled()
    with pytest.raises(StoreUnavailable, match=r"run-1/lora.safetensors arrived damaged; run again"):
        Outputs("run-1").put(file, "lora.safetensors")
    assert not list((tmp_path / "outputs" / "run-1").iterdir())


@pytest.mark.parametrize(
    ("kind", "error", "remedy"),
    [
        ("raises", StoreUnavailable, "check that it can be reached"),
        ("busy", StoreUnavailable, "check that it can be reached"),
        ("times out", StoreUnavailable, "check that it can be reached"),
        ("full", StoreFull, "free some, with `ltx-flows cache prune`"),
        ("refuses", StoreRefused, "check its owner or credentials"),
    ],
)
def test_an_error_names_the_place_and_the_remedy(kind, error, remedy, file, troubled):
    troubled(kind, 0, 1)
    assert kind in FAULTS
    with pytest.raises(error) as raised:
        Outputs("run-1").put(file, "lora.safetensors")
    assert settings().outputs_url in str(raised.value) and remedy in str(raised.value)


@pytest.mark.usefixtures("on_s3")
def test_a_server_that_is_gone_is_unavailable(file, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(StoreUnavailable, match=r"s3://data/.* does not answer .*run again"):
        Outputs("run-1").put(file, "lora.safetensors")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_a_clear_error(file, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", "s3://nobody/outputs")
    settings.cache_clear()
    with pytest.raises(StoreRefused, match="s3://nobody/outputs is not there; create it first"):
        Outputs("run-1").put(file, "lora.safetensors")


def test_the_next_try_removes_what_a_killed_one_left(home):
    part = home / "outputs" / "run-1" / "lora.safetensors.1234.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    Outputs("run-1").tidy()
    assert not part.exists()


def test_uploads_in_parts_that_nobody_finished_are_ended(on_s3):
    place = Place(settings().outputs_url)
    bucket, _, prefix = place.root.partition("/")
    for key in (f"{prefix}/run-1/lora.safetensors", "elsewhere/film.mp4"):
        on_s3.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    assert place.end_uploads(older_than=100 * 365 * DAY) == 0
    assert place.end_uploads(older_than=DAY) == 1  # to this server all uploads began in 2010
    assert [upload["Key"] for upload in on_s3.list_multipart_uploads(bucket)] == ["elsewhere/film.mp4"]


def test_pruning_takes_what_killed_runs_left_in_home_and_spares_what_is_in_use(home):
    from tasks.storage.store import temporary_folder

    left = home / "tmp" / "left"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    with temporary_folder() as mine:
        (mine / "file").write_text("in use")
        for path in home.rglob("*"):
            os.utime(path, (time.time() - DAY,) * 2)
        assert prune(older_than=7 * DAY, keep_runs=30 * DAY).files == 1
        assert (left.exists(), (mine / "file").exists()) == (False, True)

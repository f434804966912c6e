"""S3 that refuses, breaks off, cuts or dawdles: a run waits and goes on; what lasts ends it with one line."""

import hashlib
import time
from uuid import uuid4

import pytest
import s3fs

from schemas.errors import StoreRefused, StoreUnavailable
from schemas.rejections import TRAINING_DATA
from schemas.settings import settings
from tasks.sources.fetch import fetch
from tasks.storage.folder import Place, time_for
from tasks.storage.store import store
from tests.support.flaky import Flaky
from tests.support.sweeps import swept

LARGE = bytes(range(256)) * 4096 * 20  # 20 MiB: three parts


@pytest.fixture
def flaky(s3, s3_endpoint, monkeypatch):
    """As every client of this process sees it from here on; it fails a share of calls that a test chooses."""
    with Flaky(s3_endpoint, 0.0) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
        monkeypatch.setenv("LTX_FLOWS_STORE_PATIENCE_SECONDS", "60")
        monkeypatch.setenv("LTX_FLOWS_STORE", f"s3://data/{uuid4()}")
        monkeypatch.setattr("tasks.storage.patience.LONGEST_PAUSE", 0.5)
        settings.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
        yield service
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("share", swept([0.05, 0.3], short=1))
def test_everything_that_a_store_does_comes_to_its_end(flaky, share, tmp_path):
    flaky.share = share
    artifacts = []
    for number in range(12):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(LARGE[: 6 << 20] if number == 0 else f"latent {number}".encode())
        artifacts.append(store().publish(path, f"latents/{number}"))
    assert [store().find(f"latents/{number}") for number in range(12)] == artifacts
    found = store().all_local(artifacts, tmp_path / "here")
    assert [hashlib.sha256(found[each].read_bytes()).hexdigest() for each in artifacts] == [a.sha256 for a in artifacts]
    assert {file.address for file in store().place.files("blobs")} == {each.address for each in artifacts}
    store().remove(artifacts[1].address)
    assert store().find("latents/1") is None
    assert flaky.failed > share * flaky.asked / 3


@pytest.mark.parametrize("share", swept([0.05, 0.3], short=1))
def test_training_data_come_whole_and_go_on_where_they_broke_off(flaky, s3, share):
    s3.pipe("data/clips.zip", LARGE)
    flaky.share = share
    file = fetch("s3://data/clips.zip", TRAINING_DATA)
    assert (file.size, file.sha256) == (len(LARGE), hashlib.sha256(LARGE).hexdigest())


def test_what_lasts_ends_with_one_line_that_says_where_and_that_one_may_run_again(flaky, monkeypatch):
    flaky.share, flaky.kinds = 1.0, ("busy",)
    monkeypatch.setenv("LTX_FLOWS_STORE_PATIENCE_SECONDS", "1")
    settings.cache_clear()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"latents/a.json does not answer .* and run again") as raised:
        store().find("latents/a")
    assert len(str(raised.value).splitlines()) == 1
    assert time.monotonic() - begun > 0.5


def test_credentials_that_are_wrong_end_it_at_once(flaky):
    flaky.wrong_key = True
    place = Place("s3://data/flaky")
    with pytest.raises(StoreRefused, match="check its owner or credentials"):
        place.write(b"{}", "latents/a.json")
    assert flaky.asked <= 2


def test_credentials_that_are_missing_end_it_at_once(flaky, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreRefused, match="Unable to locate credentials"):
        Place("s3://data/flaky").write(b"{}", "latents/a.json")


def test_a_call_that_hangs_is_given_up_and_asked_again(flaky, monkeypatch):
    place = Place("s3://data/flaky")
    place.write(b"{}", "latents/a.json")
    monkeypatch.setattr("tasks.storage.folder.LEAST_SECONDS", 0.5)
    monkeypatch.setattr(Place._call, "__kwdefaults__", {"seconds": 0.5})
    flaky.share, flaky.kinds = 1.0, ("hangs",)
    monkeypatch.setenv("LTX_FLOWS_STORE_PATIENCE_SECONDS", "1")
    settings.cache_clear()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="FSTimeoutError"):
        place.size("latents/a.json")
    assert time.monotonic() - begun < 6


def test_the_time_that_a_call_may_take_grows_with_its_size():
    assert time_for(0) == 60
    assert time_for(38 << 30) > 24 * 3600

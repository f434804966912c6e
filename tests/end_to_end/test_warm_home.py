"""What the last release has made is used by this one: nothing is encoded or trained again, and nothing breaks."""

from hashlib import sha256

import pytest

from flows.endpoints import FLOWS
from schemas.endpoints import ENDPOINTS
from schemas.settings import settings
from tests.support.chains import path_of
from tests.support.warm_home import unpack

pytestmark = [pytest.mark.usefixtures("prefect"), pytest.mark.slow(seconds=15)]

KINDS = ("latents", "adapters", "blobs")


@pytest.fixture
def requests(home, monkeypatch):
    """The last release's home, and what was asked there."""
    home.mkdir(parents=True)
    found = unpack(home)
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(home))
    monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", "tiny")
    settings.cache_clear()
    return found


def made(home):
    """What takes a GPU to make, and when it was made."""
    paths = (path for kind in KINDS for path in (home / "store" / kind).rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): path.stat().st_mtime_ns for path in paths}


def test_nothing_that_the_last_release_has_made_is_made_again(home, requests):
    before = made(home)
    for each in requests:
        result = FLOWS[each["endpoint"]](ENDPOINTS[each["endpoint"]].read(each["body"]))
        assert sha256(path_of(result.model_dump()["lora_file"]).read_bytes()).hexdigest() == each["lora"]
    assert len(requests) == 2
    assert made(home) == before

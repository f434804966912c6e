"""Downloads: what may be fetched, from where, how much, and what happens when it breaks off."""

import base64
import hashlib
import threading
from http.server import ThreadingHTTPServer

import pytest

from schemas.errors import DownloadInterrupted
from schemas.rejections import TRAINING_DATA, DownloadRejected
from schemas.settings import settings
from tasks.sources import http as web
from tasks.sources import network
from tasks.sources.fetch import fetch, name_of
from tasks.storage.store import store
from tests.support.site import CONTENT, Site

WHERE = ("validation", 0, "audio_url")


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(web, "SECONDS_BETWEEN", 0.01)
    allow(monkeypatch, ALLOW_PRIVATE_HOSTS="true")
    handler = type("Handler", (Site,), {"breaks": 2, "log": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def allow(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"LTX_FLOWS_{name}", str(value))
    settings.cache_clear()


def refused(url, where=WHERE):
    with pytest.raises(DownloadRejected) as caught:
        fetch(url, where)
    [detail] = caught.value.details()
    assert (detail.loc, detail.type) == (("body", *where), "file_download_error")
    return str(caught.value)


def test_a_file_is_known_by_its_content_and_its_name_tells_no_secret(site):
    file = fetch(f"{site.url}/file.zip?signature=secret", WHERE)
    assert (file.name, file.sha256, file.size) == ("file.zip", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    with store().media(file.sha256) as path:
        assert path.read_bytes() == CONTENT


def test_progress_is_told_in_bytes(site):
    seen = []
    fetch(f"{site.url}/file.zip", WHERE, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_a_download_goes_on_where_it_broke_off(site):
    file = fetch(f"{site.url}/flaky.zip", WHERE)
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert [(asked, mark) for _, asked, mark in site.log] == [
        (None, None),
        ("bytes=300000-", '"v1"'),
        ("bytes=600000-", '"v1"'),
    ]


def test_a_file_that_changed_meanwhile_is_fetched_anew(site):
    assert fetch(f"{site.url}/changed.zip", WHERE).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_server_that_is_busy_is_asked_again_and_in_the_end_it_may_pass_later(site):
    assert fetch(f"{site.url}/busy.zip", WHERE).size == len(CONTENT)
    site.breaks = 99
    with pytest.raises(DownloadInterrupted, match=r"busy.zip: the server answered 503"):
        fetch(f"{site.url}/busy.zip", WHERE)


def test_a_server_that_goes_on_at_another_place_is_asked_for_the_whole(site):
    assert fetch(f"{site.url}/elsewhere.zip", WHERE).sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert [asked for _, asked, _ in site.log] == [None, "bytes=300000-", None]


def test_a_body_that_is_packed_on_the_way_is_unpacked_and_never_resumed(site):
    assert fetch(f"{site.url}/packed.zip", WHERE).sha256 == hashlib.sha256(CONTENT[:5000]).hexdigest()
    assert {asked for _, asked, _ in site.log} == {None}


def test_a_body_that_cannot_be_unpacked_is_an_interruption(site):
    with pytest.raises(DownloadInterrupted, match="DecodingError"):
        fetch(f"{site.url}/garbled.zip", WHERE)


def test_what_is_not_there_is_refused(site):
    assert refused(f"{site.url}/nothing.zip?key=secret") == "nothing.zip: the server answered 404 Not Found"


def test_a_login_page_in_place_of_the_file_is_refused(site):
    assert "web page" in refused(f"{site.url}/page.zip")


def test_redirects_are_followed_but_not_for_ever_and_not_to_files(site):
    assert fetch(f"{site.url}/there", WHERE).size == len(CONTENT)
    assert "redirects" in refused(f"{site.url}/loop")
    assert "file URL" in refused(f"{site.url}/local")
    assert "no valid URL" in refused(f"{site.url}/nowhere")


def test_the_scheme_may_be_written_in_capitals(site):
    assert fetch(f"{site.url}/file.zip".replace("http", "HTTP"), WHERE).size == len(CONTENT)


PRIVATE = "127.0.0.1 localhost [::1] 10.0.0.1 192.168.1.1 169.254.169.254 0.0.0.0 2130706433 100.64.0.1 [fe80::1]"
WRAPPED = "[::ffff:127.0.0.1] [64:ff9b::7f00:1] [::7f00:1] [2002:7f00:1::] [fec0::1]"  # IPv4 in IPv6, and its like


@pytest.mark.parametrize("host", [*PRIVATE.split(), *WRAPPED.split()])
def test_private_addresses_are_refused_unless_allowed(host):
    assert "private address" in refused(f"http://{host}/a.zip")


def test_a_redirect_into_the_private_network_is_refused(site, monkeypatch):
    public = {"169.254.169.254": False, "127.0.0.1": True}
    allow(monkeypatch, ALLOW_PRIVATE_HOSTS="false")
    monkeypatch.setattr(network, "is_public", public.__getitem__)
    assert "169.254.169.254 is a private address" in refused(f"{site.url}/away.zip")


def test_more_bytes_than_allowed_are_refused(site, monkeypatch):
    allow(monkeypatch, MAX_DOWNLOAD_BYTES=1000)
    assert "1048576 bytes, at most 1000 are allowed" in refused(f"{site.url}/file.zip")


def test_a_file_that_never_ends_is_refused_at_the_limit(site, monkeypatch):
    allow(monkeypatch, MAX_DOWNLOAD_BYTES=3 * len(CONTENT))
    assert "more than 3145728 bytes are not allowed" in refused(f"{site.url}/endless.zip")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.zip",
        "simplecache::file:///etc/passwd",
        "memory://a",
        "zip://a.wav::http://host/b.zip",
        "http://no such host/a",
        "http://[broken/a.zip",
        "http://a.invalid/x.zip",
        "http:///a.zip",
        "http://127.0.0.1:99999/a.zip",
        "http://xn--a/a.zip",
        "http://\u2603.com/a.zip",
        "local:///etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_other_kinds_of_url_are_refused(url):
    refused(url)


def test_files_of_this_machine_are_refused_unless_their_folder_is_open(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    for path in (tmp_path / "open" / "a.wav", tmp_path / "secret.wav"):
        path.write_bytes(b"sound")
    (tmp_path / "open" / "link.wav").symlink_to(tmp_path / "secret.wav")
    assert "not allowed here" in refused(f"file://{tmp_path}/open/a.wav")
    allow(monkeypatch, ALLOW_FILE_ROOT=tmp_path / "open")
    assert fetch(f"file://{tmp_path}/open/a.wav", WHERE).name == "a.wav"
    assert fetch(f"{tmp_path}/open/a.wav", WHERE).size == 5
    for url in (f"{tmp_path}/secret.wav", f"{tmp_path}/open/../secret.wav", f"file://{tmp_path}/open/link.wav"):
        assert "outside the folder" in refused(url)


def test_data_uris_are_taken_for_small_files():
    url = f"data:audio/wav;base64,{base64.b64encode(b'sound').decode()}"
    assert fetch(url, WHERE).size == 5
    assert fetch(url, TRAINING_DATA).size == 5
    assert "base64" in refused("data:audio/wav;base64,%%%", WHERE)


def test_names_hold_no_query_and_no_password():
    assert name_of("https://user:secret@host/folder/my%20clip.wav?token=secret#x") == "my clip.wav"
    assert name_of("https://user:secret@host") == "host"


def test_a_download_that_comes_too_slowly_to_be_of_use_ends(site, monkeypatch):
    monkeypatch.setattr("tasks.sources.sink.LEAST_SECONDS", 0.4)
    monkeypatch.setattr(web, "RESUMES", 0)
    with pytest.raises(DownloadInterrupted, match=r"it comes too slowly to be of use"):
        fetch(f"{site.url}/trickle.zip", TRAINING_DATA)


def test_a_large_download_may_take_its_time(site, monkeypatch):
    monkeypatch.setattr("tasks.sources.sink.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("tasks.sources.sink.LEAST_BYTES_PER_SECOND", 1e3)
    assert fetch(f"{site.url}/file.zip", TRAINING_DATA).size == len(CONTENT)

"""Files behind the links on a run's page: only by our signature, only read, played or saved by the browser."""

import asyncio

import httpx
import pytest

from flows.hosting.files import Files
from schemas.settings import settings
from tasks.storage.file_links import browser_link
from tasks.storage.folder import Place

OURS = "http://127.0.0.1:4200/api"


@pytest.fixture
def outputs(home, monkeypatch):
    """OUTPUTS with a file, and this HOME's server around."""
    (home / "server").mkdir(parents=True)
    (home / "server" / "password").write_text("secret")
    (home / "server" / "url").write_text(OURS)
    monkeypatch.setenv("PREFECT_API_URL", OURS)
    place = Place(str(home / "outputs"))
    for name in ("preview.mp4", "lora.safetensors", "dataset_report.html"):
        place.write(b"0123456789", f"run/{name}")
    return place


def asked(link, method="GET", **headers):
    async def ask():
        transport = httpx.ASGITransport(Files(nobody))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4200") as client:
            return await client.request(method, link, headers=headers)

    return asyncio.run(ask())


async def nobody(scope, receive, send):
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"Prefect"})


def test_a_reel_plays_in_the_browser_and_players_may_seek(outputs):
    link = browser_link(outputs, "run/preview.mp4")
    whole, part = asked(link), asked(link, Range="bytes=2-4")
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, b"0123456789", "video/mp4")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert "content-security-policy" not in whole.headers  # sandboxed, the player would be a page from elsewhere
    assert whole.headers["content-disposition"] == "inline; filename*=utf-8''preview.mp4"


def test_a_lora_is_saved_under_its_name(outputs):
    answer = asked(browser_link(outputs, "run/lora.safetensors", "my style.safetensors"))
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''my%20style.safetensors"


def test_a_report_is_shown_and_may_run_nothing(outputs):
    answer = asked(browser_link(outputs, "run/dataset_report.html"))
    assert answer.headers["content-security-policy"] == "sandbox" and answer.headers["x-content-type-options"]


def test_a_link_opens_its_own_file_and_no_other(outputs, home):
    link = browser_link(outputs, "run/preview.mp4")
    other = link.replace("preview.mp4&", "lora.safetensors&")
    assert other != link
    assert asked(other).status_code == 403
    assert asked("/ltx-flows/files/x?path=/etc/passwd&signature=").status_code == 403
    assert asked("/ltx-flows/files/../../etc/passwd").status_code == 299  # no file of ours: Prefect answers
    (home / "server" / "password").write_text("another")
    assert asked(link).status_code == 403


def test_files_are_only_read_and_a_file_that_is_gone_is_said_so(outputs):
    link = browser_link(outputs, "run/preview.mp4")
    assert asked(link, "DELETE").status_code == 405
    outputs.remove("run/preview.mp4")
    assert asked(link).status_code == 404


def test_what_is_no_file_is_prefects(outputs):
    assert asked("/api/health").status_code == 299


def test_a_teams_server_gets_no_link_to_a_file_of_this_machine(outputs, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.team.example/api")
    assert browser_link(outputs, "run/preview.mp4") is None


def test_a_file_on_s3_has_a_link_that_needs_no_credentials(s3, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_LINK_SECONDS", "90")
    settings.cache_clear()
    place = Place("s3://data/links")
    place.write(b"reel", "run/preview.mp4")
    assert httpx.get(browser_link(place, "run/preview.mp4"), trust_env=False).content == b"reel"

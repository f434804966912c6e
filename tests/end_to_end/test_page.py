"""Every endpoint from its form to a finished run, in a browser, and nothing typed into a terminal."""

import pytest

from schemas.endpoints import ENDPOINTS
from tests.support.browser import CHROMIUM, OPTIONS, PLAY
from tests.support.person import fill, see_plan, train
from tests.support.requests import small_requests
from tests.support.service import WAIT_SECONDS, Service

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The real one, with a key."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "files").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTX_FLOWS_API_KEYS", "a-key")
        service = Service(folder / "home", folder / "files")
        yield service
        service.stop()


@pytest.fixture(scope="module")
def page(service):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(60_000)
        page.goto(service.urls["history"])
        page.get_by_label("API key").fill("a-key")
        page.get_by_role("button", name="Sign in").click()
        yield page
        browser.close()


@pytest.fixture(scope="module")
def requests(service):
    return small_requests(service.files)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_training_is_asked_for_and_seen_to_finish_in_the_browser(page, service, requests, name):
    page.goto(f"{service.urls['history']}train/{name}")
    ignored = ENDPOINTS[name].request.unused  # which a form does not ask for
    fill(page, {field: value for field, value in requests[name].items() if field not in ignored})
    assert "Trained on" in see_plan(page)
    train(page)
    page.locator(".badge.finished, .badge.failed, .badge.rejected").wait_for(timeout=1000 * WAIT_SECONDS)
    assert page.locator(".badge.finished").count() == 1, page.inner_text("main")
    curve = page.request.get(f"{page.url}/pictures/loss-curve")  # as Prefect has it
    assert (curve.status, curve.headers["content-type"]) == (200, "image/svg+xml")
    if requests[name]["validation"]:
        assert page.locator("video, audio").first.evaluate(PLAY) > 0
    with page.expect_download() as fetched:
        page.get_by_role("link", name="LoRA").click()
    assert fetched.value.path().stat().st_size > 1000


def test_the_runs_link_opens_it_in_prefect(page, service):
    page.goto(service.urls["history"])
    page.locator(".run h2 a").first.click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open this run in Prefect").click()
    opened.value.get_by_text("Artifacts").first.wait_for()
    assert "/runs/flow-run/" in opened.value.url

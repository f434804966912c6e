"""Pages in Chromium, over runs that a test moves: by keyboard, on a phone, light and dark, open to everybody."""

import os
import shutil
from pathlib import Path

import pytest

from flows.service.sightings import Picture, Sighting
from schemas.endpoints import ENDPOINTS
from schemas.rejections import DownloadRejected, NothingFound, Rejections
from schemas.result import TrainingResult
from schemas.settings import settings
from tests.support import clips
from tests.support.browser import CHROMIUM, PLAY
from tests.support.person import fill, see_plan, train
from tests.support.service_app import FILE, RESULT
from tests.support.sweeps import swept
from tests.support.watched import AXE, CUT_OFF, serious_faults, until, watched

pytestmark = [
    pytest.mark.slow(seconds=60),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci in tests/clients")
CURVE = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240" width="640" height="240">
<rect width="100%" height="100%" fill="white"/><path d="M28 30 120 120 600 190" fill="none" stroke="blue"/></svg>"""
ASKED = {"training_data_url": "https://example.com/clips.zip", "trigger_phrase": "zoomy walk"}
FAULTS = [NothingFound("clips.zip", (".mp4",)), DownloadRejected("a.mp4", "it is gone", where=("validation", 0))]
LOOKS = [("desk", "light"), ("phone", "dark"), ("desk", "dark"), ("phone", "light")]
STATES = ("sign-in", "history", "endpoints", "plan", "faults", "running", "finished", "rejected", "compare", "docs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips with captions, and what systems leave beside them."""
    folder = tmp_path_factory.mktemp("people") / "walks"
    folder.mkdir()
    for name in ("one", "two"):
        clips.video(folder / f"{name}.mp4", 30)
        (folder / f"{name}.txt").write_text(f"walk {name}")
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One service for all tests of this file, with one request of every standing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTX_FLOWS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("LTX_FLOWS_API_KEYS", "a-key")
        settings.cache_clear()
        with watched("a-key") as service:
            service.made = _requests(service, tmp_path_factory.mktemp("reel"))
            yield service
    settings.cache_clear()


@pytest.fixture(autouse=True)
def home():
    """The home of `service`."""


@pytest.fixture
def page(service):
    """A page of somebody who has signed in; what its console says is a fault."""
    with service.browser() as page:
        _sign_in(page, service)
        page.wrong.clear()  # the door's 401
        yield page
        assert [said for said in page.wrong if "422" not in said] == []


def _requests(service, folder):
    made = {name: service.submit("extend-prefix", ASKED | {"rank": rank}) for name, rank in (("one", 8), ("two", 64))}
    made |= {name: service.submit("ic-lora/a2a", ASKED) for name in ("rejected", "running", "waiting")}
    for name in ("one", "two", "rejected", "running"):
        service.begin(made[name])
    for name in ("one", "two"):
        service.end(made[name], result=_delivered(service.runs.started[made[name]], folder))
    service.end(made["rejected"], error=Rejections(FAULTS))
    still = folder / "still.png"
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180", "-frames:v", "1", str(still))
    shown = {"loss-curve": Picture("image/svg+xml", CURVE, "Last step: 0.12")}
    shown["previews"] = Picture("image/png", still.read_bytes(), "")
    service.runs.seen[service.runs.started[made["running"]]] = Sighting(43.7, "Optimisation steps", shown)
    return made


def _delivered(run_id, folder):
    outputs = Path(settings().outputs_url) / run_id
    outputs.mkdir(parents=True)
    shutil.copy(clips.video(folder / "reel.mp4", 48), outputs / "preview.mp4")
    return TrainingResult.model_validate(RESULT | {"video": FILE | {"file_name": "preview.mp4"}})


def _sign_in(page, service):
    page.goto(service.url)
    page.get_by_label("API key").fill("a-key")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="History").wait_for()


def _open(state, page, service, folder):
    """Bring a page into a state that a person meets."""
    made = service.made
    addresses = {"history": "/", "endpoints": "/train", "docs": "/docs", "sign-in": "/sign-in"}
    addresses |= {name: f"/history/{made[name]}" for name in ("running", "rejected")}
    addresses |= {"finished": f"/history/{made['one']}", "compare": f"/compare?run={made['one']}&run={made['two']}"}
    page.goto(service.url + addresses.get(state, "/train/extend-prefix"))
    if state == "running":
        page.locator("[data-going]:not([hidden])").wait_for()
    if state == "plan":
        fill(page, {"training_data_url": (folder / "one.mp4").as_uri(), "number_of_frames": 17})
        see_plan(page)
    if state == "faults":
        fill(page, {"number_of_steps": 5, "validation": [{"prompt": ""}]})
        see_plan(page)


@needs_axe
@pytest.mark.parametrize(("size", "scheme"), swept(LOOKS, short=2))
def test_no_page_has_a_serious_accessibility_fault_or_is_cut_off(service, folder, size, scheme):
    with service.browser(size, scheme) as page:
        _sign_in(page, service)
        for state in STATES:
            _open(state, page, service, folder)
            _keep(page, f"{state}-{size}-{scheme}")
            assert (state, serious_faults(page), page.evaluate(CUT_OFF)) == (state, [], [])


def _keep(page, name):
    if pictures := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(pictures) / f"page-{name}.png", full_page=True)


@needs_axe
@pytest.mark.parametrize("name", swept(ENDPOINTS, short=2))
def test_the_form_of_every_endpoint_is_accessible_with_all_that_unfolds(page, service, name):
    page.goto(f"{service.url}/train/{name}")
    page.locator("[data-add]").first.click()
    page.evaluate("document.querySelectorAll('main details').forEach(each => { each.open = true; })")
    assert (serious_faults(page), page.evaluate(CUT_OFF)) == ([], [])


def test_a_folder_of_clips_becomes_a_plan_and_a_request(page, service, folder):
    page.goto(f"{service.url}/train/extend-prefix")
    page.locator("[data-folder] input").set_input_files(folder)
    page.locator("[data-sent]:has-text('walks.zip')").wait_for()
    fill(page, {"trigger_phrase": "zoomy", "rank": 8, "number_of_frames": 17})
    fill(page, {"validation": [{"prompt": "zoomy, on", "video_url": (folder / "one.mp4").as_uri()}], "stg_scale": 0})
    told = see_plan(page)
    assert "12.40 USD" in told and "2 samples" in told
    request = train(page)
    asked = service.asked(request)
    wanted = {"trigger_phrase": "zoomy", "rank": 8, "number_of_frames": 17, "stg_scale": 0, "number_of_steps": 2000}
    assert {name: asked[name] for name in wanted} == wanted
    assert asked["training_data_url"].endswith("/walks.zip")
    assert asked["validation"][0]["video_url"].endswith("/one.mp4")


def test_faults_are_shown_at_their_fields_and_the_first_has_the_focus(page, service, folder):
    _open("faults", page, service, folder)
    steps = page.locator("[data-field='number_of_steps']")
    assert "greater than or equal to 100" in steps.locator(".fault").inner_text()
    assert page.locator("[data-item] .fault:visible").count() == 2  # of the prompt and the clip
    assert page.evaluate("document.activeElement.id") == "f-training_data_url-files"
    assert "4 things to mend" in page.get_by_role("alert").inner_text()
    page.get_by_label("Number of steps").fill("200")
    assert steps.locator(".fault").is_hidden()


def test_an_earlier_request_fills_the_form_and_is_sent_once(page, service, folder):
    page.goto(f"{service.url}/train/extend-prefix?again={service.made['two']}")
    assert page.get_by_label("Trigger phrase").input_value() == "zoomy walk"
    assert page.locator("[data-field='rank'] input:checked").input_value() == "64"
    fill(page, {"training_data_url": (folder / "one.mp4").as_uri(), "number_of_frames": 17})
    see_plan(page)
    sent = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("v2/extend-prefix") else None)
    page.get_by_role("button", name="Train for").dblclick()
    page.wait_for_url("**/history/*")
    assert len(sent) == 1 and sent[0].headers["idempotency-key"]


def test_a_plan_that_is_not_of_the_form_any_more_cannot_be_sent(page, service, folder):
    _open("plan", page, service, folder)
    page.get_by_label("Trigger phrase").fill("other")
    assert page.get_by_role("button", name="Train for").is_hidden()


def test_large_files_come_in_parts(page, service):
    page.goto(f"{service.url}/train/extend-prefix")
    script = """async () => {
        const { upload } = await import("/static/send.js"), sent = [];
        const content = new Blob([new Uint8Array(33 * 2 ** 20)]);
        const url = await upload(content, "große.zip", { onSent: bytes => sent.push(bytes) });
        return [url, Math.max(...sent)];
    }"""
    url, sent = page.evaluate(script)
    assert url.startswith(f"{service.url}/uploads/") and sent == 33 * 2**20


def test_a_running_training_is_seen_to_go_on_and_to_end(page, service):
    request = service.submit("extend-prefix", ASKED | {"trigger_phrase": "ends"})
    page.goto(f"{service.url}/history/{request}")
    page.locator(".badge.waiting").wait_for()
    service.begin(request)
    service.runs.seen[service.runs.started[request]] = Sighting(61.2, "Optimisation steps", {})
    page.get_by_text("61 %").wait_for()
    service.end(request, error=Rejections(FAULTS))
    page.get_by_text("it is gone").wait_for()
    assert page.locator("[data-live]").count() == 0


def test_a_request_is_cancelled_from_the_history_by_keyboard(page, service):
    request = service.submit("extend-prefix", ASKED | {"trigger_phrase": "unwanted"})
    page.goto(f"{service.url}/?phrase=unwanted")
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/history/{request}")
    page.locator(".badge.cancelled").wait_for()


def test_two_runs_play_together(page, service):
    page.goto(service.url + "/?status=finished")
    for mark in page.get_by_role("checkbox").all():
        mark.check()
    page.get_by_role("button", name="Compare the marked ones").click()
    page.get_by_role("button", name="Play together").click()
    page.wait_for_function("() => [...document.querySelectorAll('video')].every(each => each.currentTime > 0.3)")
    first, second = page.evaluate("[...document.querySelectorAll('video')].map(each => each.currentTime)")
    assert abs(first - second) < 0.2
    assert page.locator(".differences").inner_text().count("Rank") == 1


def test_a_finished_run_plays_its_previews(page, service):
    page.goto(f"{service.url}/history/{service.made['one']}")
    assert page.locator("video").evaluate(PLAY) > 0


def test_without_scripts_history_and_cancel_still_work(service):
    request = service.submit("extend-prefix", ASKED | {"trigger_phrase": "scriptless"})
    with service.browser(java_script_enabled=False) as page:
        _sign_in(page, service)
        page.goto(f"{service.url}/history/{request}")
        page.get_by_role("button", name="Cancel").click()
        until(lambda: service.status(request) == "COMPLETED")
        page.goto(f"{service.url}/?status=cancelled")
        assert page.get_by_role("link", name="scriptless", exact=True).count() == 1


def test_signing_out_closes_the_door(page, service):
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(service.url)
    assert page.get_by_label("API key").is_visible()
    page.wrong.clear()  # the 401 that was meant


def test_a_link_from_elsewhere_finds_the_session(page, service):
    page.set_content(f"<a href='{service.url}/train'>Train</a>")
    page.get_by_role("link").click()
    page.get_by_role("heading", name="Train a LoRA").wait_for()
    page.wrong.clear()

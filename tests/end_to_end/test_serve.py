"""`ltx-flows serve` as one installation lives: killed in the middle of its work, started again, looked at, ended."""

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile
from safetensors import safe_open

from schemas.endpoints import ENDPOINTS
from tests.support.browser import CHROMIUM
from tests.support.clips import zipped
from tests.support.hostile import HOSTILE, Page, answers, as_nobody
from tests.support.made import debugged, film, moved
from tests.support.requests import FRAMES, HEIGHT, WIDTH
from tests.support.service import Receiver, until
from tests.support.sweeps import swept

pytestmark = [pytest.mark.slow(seconds=220), pytest.mark.timeout(600)]

CLIENTS = Path(__file__).parents[1] / "clients"
needs_node = pytest.mark.skipif(
    not (CLIENTS / "node_modules").is_dir() or shutil.which("node") is None,
    reason="the JavaScript client is not installed: npm ci --prefix tests/clients",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


def test_killed_it_leaves_no_process_behind(killed):
    service, _ = killed
    until(lambda: service.processes() == [])


def test_started_again_it_finishes_what_was_running_and_what_was_queued(service):
    assert [run["state"]["name"] for run in service.runs] == ["Completed"] * 2
    assert [run["run_count"] for run in service.runs] == [2, 1]  # the first went on as the same run


def test_what_was_running_goes_first(service):
    first, *later = [run["end_time"] for run in service.runs]
    assert first < min(later)


def test_each_run_is_billed_once(service):
    billed = sorted(row["run_id"] for row in service.bills())
    assert billed == sorted(run["id"] for run in service.runs)


def test_each_client_gets_its_result(service):
    assert [result.status_code for result in service.results] == [200] * 2
    assert {result.headers["x-fal-billable-units"] for result in service.results} == {"100"}
    assert len({result.json()["lora_file"]["url"] for result in service.results}) == 2


def test_the_finished_steps_of_the_killed_run_came_from_the_cache(service):
    states = service.task_states(service.runs[0]["id"])
    assert {states[step] for step in ("extract", "match", "fit")} == {"Cached"}


def test_runs_are_named_after_their_endpoint_and_trigger_phrase(service):
    assert {run["name"] for run in service.runs} == {"audio-extend-prefix hmm"}


def test_its_certificate_is_what_it_says_to_trust(service):
    assert f"export SSL_CERT_FILE={service.home}/tls/authorities.pem" in service.said.read_text()
    assert httpx.get(service.urls["API"], verify=service.trusted).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.urls["API"])


def test_a_second_one_on_the_same_home_is_refused(service):
    second = service.again()
    assert (second.returncode, "runs already" in second.stderr) == (1, True)


@needs_chromium
@pytest.mark.parametrize("name", swept(ENDPOINTS, short=0))
def test_the_run_form_shows_every_field_with_title_description_and_default(trained, forms, name):
    for field, info in ENDPOINTS[name].request.model_fields.items():
        assert info.title in forms[name] and info.description in forms[name], field


@needs_chromium
@pytest.mark.parametrize("name", swept(ENDPOINTS, short=0))
def test_a_run_started_by_its_form_is_seen_to_finish_with_its_artifacts(service, browser, trained, name):
    run_id = trained[name]["id"]
    shown = browser.open_run(run_id, "Artifacts")
    assert "Completed" in shown
    assert all(key in shown for key in ("dataset-report", "train", "loss-curve"))
    artifacts = service.artifacts(run_id)
    assert {artifacts[step]["data"] for step in ("encode", "train")} == {100.0}
    assert browser.width_of_picture(artifacts["loss-curve"]) == 760
    assert {"lora", "config", "report", "bill", "warning"} <= artifacts.keys()
    assert ("previews" in artifacts) == bool(trained[name]["parameters"]["request"]["validation"])


@pytest.mark.parametrize("name", swept(["ic-lora/a2a"], short=0))
def test_a_pair_of_sounds_trains_end_to_end(service, trained, name):
    made = service.outputs(trained[name]["id"])
    assert moved(made) and not (made / "preview.mp4").exists()
    sound, rate = soundfile.read(made / "preview.wav")
    assert len(sound) == 4 * round(9 / 24 * rate)  # twice a reference and its result, 9 frames of 24 a second each
    report = json.loads((made / "dataset_report.json").read_text())
    assert (report["kept"], report["warnings"][0].split(" is ")[0]) == (2, "split_input_into_scenes")
    assert {"a_reference.wav", "a_target.wav", "manifest.json"} <= debugged(made)


@pytest.mark.parametrize("name", swept(["ic-lora/av2av"], short=0))
def test_a_pair_of_films_trains_end_to_end_on_a_reference_of_half_the_frames(service, trained, name):
    made = service.outputs(trained[name]["id"])
    assert moved(made) and not (made / "preview.wav").exists()
    with safe_open(made / "lora.safetensors", "pt") as file:
        assert file.metadata()["reference_temporal_scale_factor"] == "2"
    frames = film(made / "preview.mp4", 2 * 17, 2 * WIDTH)
    reference, shown = frames[:, :HEIGHT, :WIDTH], frames[:, :HEIGHT, WIDTH:]
    assert np.abs(reference[:17] - reference[17:]).mean() < 6  # the same before and after; the result is not
    assert np.abs(shown[:17] - shown[17:]).mean() > 6


@pytest.mark.parametrize("name", swept(["av2av-masked"], short=0))
def test_a_triplet_trains_end_to_end_and_keeps_what_is_black(service, trained, name):
    made = service.outputs(trained[name]["id"])
    assert moved(made)
    frames = film(made / "preview.mp4", 2 * FRAMES, 3 * WIDTH)[:, :HEIGHT]
    source, reference, shown = (frames[:, :, WIDTH * n : WIDTH * n + WIDTH] for n in range(3))
    kept, new = slice(WIDTH // 2 + 8, None), slice(None, WIDTH // 2 - 8)
    assert np.abs(source[:, :, kept] - shown[:, :, kept]).mean() < 6  # H.264 on the same pixels
    assert np.abs(source[:, :, new] - shown[:, :, new]).mean() > 20
    assert np.abs(source - reference).mean() > 10


@needs_chromium
def test_steps_that_came_from_the_cache_are_seen_to(service, browser):
    assert "Cached" in browser.open_run(service.runs[0]["id"], "Task Runs")


@needs_chromium
def test_the_history_page_lists_the_requests_and_plays_a_preview(service, browser):
    assert browser.history().count("audio-extend-prefix") >= 2
    assert browser.seconds_played(service.results[0].headers["x-fal-request-id"]) > 0


@pytest.fixture(scope="module")
def asked(service, request_body):
    """What the clients send: a good request, and one whose archive holds no clip."""
    files = service.files
    (files / "note.txt").write_text("no clip")
    (files / "none.zip").write_bytes(zipped({"note.txt": files / "note.txt"}))
    bodies = {"good": request_body, "bad": request_body | {"training_data_url": (files / "none.zip").as_uri()}}
    for name, body in bodies.items():
        (files / f"{name}.json").write_text(json.dumps(body))
    return files / "good.json", files / "bad.json"


@pytest.fixture(scope="module")
def python_client(service, asked):
    with Receiver() as receiver:
        seen = service.client([sys.executable, CLIENTS / "python_client.py", *asked, receiver.url])
        until(lambda: receiver.heard)
    return seen, receiver.heard


def test_the_stock_python_client_submits_follows_and_gets_its_result(service, python_client):
    seen, _ = python_client
    assert seen["result"]["billing"]["usd"] == "0.22"
    assert any("billed 100 units" in line for line in seen["logs"])
    link = seen["result"]["lora_file"]["url"]
    assert len(httpx.get(link, verify=service.trusted).content) == seen["result"]["lora_file"]["file_size"]


def test_the_stock_python_client_gets_422s_with_their_detail_at_once_and_from_the_run(python_client):
    seen, _ = python_client
    assert (seen["wrong_request"]["status"], seen["wrong_request"]["detail"][0]["type"]) == (422, "one_of")
    assert seen["wrong_data"]["status"] == 422
    assert seen["wrong_data"]["detail"][0]["type"] == "archive_file_count_below_minimum"


def test_the_stock_python_client_cancels_what_waits_and_what_runs(python_client):
    seen, _ = python_client
    assert [seen[name]["status"] for name in ("cancelled", "cancelled_running")] == [400, 400]


def test_what_was_cancelled_is_not_billed(service, python_client):
    seen, _ = python_client
    cancelled = [service.finished(run["id"]) for asked in seen["cancelled_ids"] for run in service.runs_of(asked)]
    assert {run["state"]["name"] for run in cancelled} <= {"Cancelled"}  # or it was cancelled before it had a run
    assert not {run["id"] for run in cancelled} & {row["run_id"] for row in service.bills()}


def test_the_stock_python_client_that_waits_for_the_result_gets_it(python_client):
    seen, _ = python_client
    assert seen["ran"]["billing"]["usd"] == "0.22"


def test_a_webhook_reaches_the_client(python_client):
    seen, heard = python_client
    assert seen["status"] == "Completed"
    assert [(body["request_id"], body["status"]) for body in heard] == [(seen["told"], "OK")]


def test_the_stock_python_client_uploads_in_parts_what_a_request_then_names(service, request_body):
    origin = service.urls["history"].rstrip("/")
    seen = service.client([sys.executable, CLIENTS / "python_upload.py", origin, service.files / "sounds.zip"])
    body = request_body | {"training_data_url": seen["parts"]}
    plan = httpx.post(f"{service.api}/plan/audio-extend-prefix", json=body, verify=service.trusted, timeout=60)
    assert (plan.status_code, plan.json().get("kept")) == (200, 2)


@pytest.mark.long
@needs_node
def test_the_stock_javascript_client_does_the_same_through_the_proxy_route_with_an_upload(service, asked):
    origin = service.urls["history"].rstrip("/")
    seen = service.client(["node", CLIENTS / "javascript_client.mjs", origin, asked[0]])
    assert seen["data"]["billing"]["usd"] == "0.22" and any("billed" in line for line in seen["logs"])
    assert (seen["wrong_request"]["name"], seen["wrong_request"]["status"]) == ("ValidationError", 422)
    assert seen["wrong_request"]["detail"][0]["type"] == "one_of"
    assert (seen["cancelled"]["status"], seen["streamed"]) == (400, "COMPLETED")
    assert seen["ran"]["billing"]["usd"] == "0.22"


# --- who may reach what it started --------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_account_of_the_machine_gets_nothing_from_the_server_that_was_started(service):
    def tries():
        paths = ("deployments/filter", "work_pools/filter", "flow_runs/")
        codes = [httpx.post(f"{service.prefect}/{path}", json={}).status_code for path in paths]
        guessed = httpx.post(f"{service.prefect}/deployments/filter", json={}, auth=("ltx", "guess"))
        try:
            return [*codes, guessed.status_code, (service.home / "server" / "password").read_text()]
        except PermissionError:
            return [*codes, guessed.status_code, "closed"]

    assert as_nobody(tries) == [401, 401, 401, 401, "closed"]


def test_its_home_is_its_owners_alone(service):
    assert service.home.stat().st_mode & 0o777 == 0o700
    assert (service.home / "server" / "password").stat().st_mode & 0o777 == 0o600


def test_it_listens_for_this_machine_alone(service):
    address = service.pages.removeprefix("http://")
    assert address.startswith("127.0.0.1:")
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{int(address.rpartition(':')[2]):04X}"
    listening = {line.split()[1].partition(":")[0] for line in table if line.split()[1].endswith(port)}
    assert listening == {"0100007F"}


@needs_chromium
def test_a_page_from_elsewhere_in_the_owners_browser_starts_nothing(service, browser, request_body):
    before = service.ask("flow_runs/count", {})
    page = browser.chromium.new_page(ignore_https_errors=True)
    with Page(HOSTILE) as elsewhere:
        page.goto(elsewhere)
        deployment = service.deployment("audio_extend_prefix")
        words = [service.pages, service.api, deployment, request_body]
        told = page.evaluate("([p, a, d, r]) => attack(p, a, d, r)", words)
        page.set_content(f"""<form method="post" enctype="text/plain" action="{service.api}/audio-extend-prefix">
            <input name='{{"training_data_url":"' value='"}}'><button>go</button></form>""")
        page.get_by_role("button").click()
        page.wait_for_load_state()
        seen = page.inner_text("body")
    page.close()
    assert set(told) <= {"opaque", "refused"}  # what came back cannot be read
    assert "from elsewhere" in seen
    assert service.ask("flow_runs/count", {}) == before


@pytest.mark.parametrize("part", swept(["flows.hosting.prefect_app", "flows.hosting.keeper"], short=0))
def test_a_prefect_server_that_dies_is_started_again_at_the_same_address(service, part):
    before = service.ask("flow_runs/count", {})
    for process in psutil.process_iter(["cmdline"]):
        if part in (process.info["cmdline"] or []) and process.environ()["LTX_FLOWS_HOME"] == str(service.home):
            process.kill()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.prefect}/health")
    until(lambda: answers(f"{service.prefect}/health"))
    assert service.ask("flow_runs/count", {}) == before
    assert service.result(service.submit("audio-extend-prefix", service.body)).status_code == 200


def test_a_run_that_nobody_heard_being_cancelled_is_cancelled_all_the_same(service):
    assert service.finished(service.unheard)["state"]["name"] == "Cancelled"


def test_ctrl_c_ends_it_and_all_that_it_started(service):
    assert service.stop() == 0
    assert service.processes() == []
    with suppress(httpx.ConnectError):
        pytest.fail(f"Prefect answers still: {httpx.get(service.prefect)}")

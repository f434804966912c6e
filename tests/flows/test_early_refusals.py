"""What can be refused at once is: before anything is queued, started or downloaded, and with all faults together."""

import asyncio
import json

import pytest

from flows.cli import main
from flows.plan import plan_run
from flows.service import owned, register
from flows.service.auth import ANYBODY
from schemas.endpoints import ENDPOINTS
from schemas.rejections import InputRejected
from schemas.settings import settings
from tasks.sources.upload_url import uploaded_url
from tests.support.clips import archive, video, zipped
from tests.support.requests import PICTURE, PREVIEW
from tests.support.service_app import api

WRONG = {
    "a scheme that nobody knows": "gopher://host/clips.zip",
    "a scheme of another protocol": "ftp://host/clips.zip",
    "a file that is not allowed": "file:///etc/hostname",
    "a path that is not allowed": "/etc/hostname",
    "an upload that is not there": f"upload://{'0' * 64}/clips.zip",
    "an address without a host": "https:///clips.zip",
    "an address with an impossible port": "https://host:99999/clips.zip",
    "a chain": "simplecache::s3://bucket/clips.zip",
}


async def refused(body, endpoint="extend-prefix"):
    async with api() as service:
        answer = await service.submit(endpoint, body)
        assert service.runs.started == {} and register.unsettled() == []
        return answer.status_code, [(tuple(f["loc"]), f["type"]) for f in answer.json()["detail"]]


@pytest.mark.parametrize("what", WRONG)
def test_a_request_whose_url_cannot_be_fetched_is_refused_when_it_is_submitted(what):
    preview = {"prompt": "on", "video_url": WRONG[what]}
    code, faults = asyncio.run(refused({"training_data_url": WRONG[what], "validation": [preview]}))
    where = (("body", "training_data_url"), ("body", "validation", 0, "video_url"))
    assert (code, faults) == (422, [(loc, "file_download_error") for loc in where])


def test_a_request_that_only_defaults_make_wrong_is_refused_when_it_is_submitted():
    body = {"training_data_url": "https://host/clips.zip", "number_of_frames": 9}
    assert asyncio.run(refused(body)) == (422, [(("body", "conditioning_frames"), "less_than")])


def test_a_typed_request_whose_url_cannot_be_fetched_starts_nothing(tmp_path, home, capfd):
    (tmp_path / "request.json").write_text(json.dumps({"training_data_url": "gopher://host/clips.zip"}))
    assert main(["run", "extend-prefix", str(tmp_path / "request.json")]) == 2
    [fault] = json.loads(capfd.readouterr().out)["detail"]
    assert (fault["type"], "gopher: URLs are not supported" in fault["msg"]) == ("file_download_error", True)
    assert not home.exists()


# --- data that are already here -----------------------------------------------------------------------------------


def silent_upload(folder):
    clip = video(folder / "silent.mp4", 20)
    file = archive(folder / "clips.zip", {"silent.mp4": clip})
    owned.add(ANYBODY, file)
    return uploaded_url(file)


async def looked_at(body, before=None):
    """The standing of a request when its data have been looked at; `before`: what happens to its run until then."""
    async with api() as service:
        busy = await service.submitted(body={"training_data_url": "https://host/other.zip"})
        await service.move(busy, "Running")
        request_id = await service.submitted(body=body)
        if before:
            await service.move(request_id, before)
        watcher = service.app.state.watcher
        await watcher.inspector.look(watcher.entries[request_id])
        await service.look()
        result = await service.get(request_id)
        return (await service.status(request_id))["status"], result.status_code, result.json()


def test_an_upload_that_is_wrong_gets_its_422_while_another_request_trains(tmp_path):
    body = {"training_data_url": silent_upload(tmp_path), "with_audio": True, "number_of_frames": 17}
    status, code, answer = asyncio.run(looked_at(body))
    assert (status, code) == ("COMPLETED", 422)
    assert [fault["type"] for fault in answer["detail"]] == ["feature_not_supported"]


def test_an_upload_that_is_right_stays_queued(tmp_path):
    body = {"training_data_url": silent_upload(tmp_path), "number_of_frames": 17}
    assert asyncio.run(looked_at(body))[:2] == ("IN_QUEUE", 400)


def test_a_run_that_has_begun_finds_out_by_itself(tmp_path):
    body = {"training_data_url": silent_upload(tmp_path), "with_audio": True, "number_of_frames": 17}
    assert asyncio.run(looked_at(body, before="Running"))[0] == "IN_PROGRESS"


def test_data_that_have_to_be_downloaded_are_not_looked_at_by_the_api():
    assert asyncio.run(looked_at({"training_data_url": "https://host/clips.zip"}))[0] == "IN_QUEUE"


# --- plan and run -------------------------------------------------------------------------------------------------


def faults_of(work):
    try:
        work()
    except InputRejected as error:
        return sorted((fault.loc, fault.type, fault.msg) for fault in error.details())
    return []


@pytest.fixture
def wrong_everywhere(tmp_path, monkeypatch):
    """Two silent clips, a preview that is too short, and one that is not there."""
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()
    silent = {name: video(tmp_path / name, 20) for name in ("a.mp4", "b.mp4")}
    (tmp_path / "clips.zip").write_bytes(zipped(silent))
    short = video(tmp_path / "short.mp4", 6, sound=True)
    return {
        "training_data_url": (tmp_path / "clips.zip").as_uri(),
        "with_audio": True,
        **PICTURE | PREVIEW | {"number_of_frames": 17, "validation_number_of_frames": 17},
        "validation": [
            {"prompt": "on", "video_url": short.as_uri()},
            {"prompt": "on", "video_url": silent["a.mp4"].as_uri()},
        ],
    }


@pytest.mark.usefixtures("prefect")
def test_plan_and_run_name_the_same_faults_and_all_of_them(wrong_everywhere):
    from flows.endpoints import FLOWS

    endpoint = ENDPOINTS["extend-prefix"]
    request = endpoint.read(wrong_everywhere)
    planned = faults_of(lambda: plan_run(endpoint, request))
    state = FLOWS["extend-prefix"](request, return_state=True)
    error = state.result(raise_on_failure=False)
    assert state.name == "Rejected"
    assert planned == sorted((fault.loc, fault.type, fault.msg) for fault in error.details())
    assert [(loc, kind) for loc, kind, _ in planned] == [
        (("body", "training_data_url"), "feature_not_supported"),
        (("body", "training_data_url"), "feature_not_supported"),
        (("body", "validation", 0, "video_url"), "audio_duration_too_short"),
        (("body", "validation", 0, "video_url"), "video_duration_too_short"),
        (("body", "validation", 1, "video_url"), "feature_not_supported"),
    ]


@pytest.mark.usefixtures("prefect")
def test_prefect_lets_a_run_be_rejected_only_before_it_begins():
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.states import Running, Scheduled

    from flows.endpoints import FLOWS
    from flows.service.prefect_runs import PrefectRuns

    flow, asked = FLOWS["extend-prefix"], {"request": {"training_data_url": "https://host/clips.zip"}}
    with get_client(sync_client=True) as client:
        made = [client.create_flow_run(flow, parameters=asked, state=state()) for state in (Scheduled, Running)]
        ids = [run.id for run in made]

        async def rejected():
            runs = PrefectRuns()
            try:
                return [await runs.reject(str(run_id), "422 silent") for run_id in ids]
            finally:
                await runs.close()

        assert asyncio.run(rejected()) == [True, False]
        ended, going = (client.read_flow_run(run_id).state for run_id in ids)
        log = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids)))
    assert [(line.flow_run_id, line.message) for line in log] == [(ids[0], "422 silent")]
    assert (ended.type.value, ended.name, ended.message, going.name) == ("FAILED", "Rejected", "422 silent", "Running")


# --- random weights -----------------------------------------------------------------------------------------------


def test_plan_says_loudly_that_the_base_model_has_random_weights(tmp_path, capfd, monkeypatch):
    (tmp_path / "clips.zip").write_bytes(zipped({"a.mp4": video(tmp_path / "a.mp4", 20)}))
    (tmp_path / "request.json").write_text(json.dumps({"training_data_url": "clips.zip", "number_of_frames": 17}))
    assert main(["plan", "extend-prefix", str(tmp_path / "request.json")]) == 0
    told = capfd.readouterr()
    assert told.err.startswith("ltx-flows: RANDOM WEIGHTS: the base model `tiny`")
    assert [line for line in json.loads(told.out)["warnings"] if line.startswith("RANDOM WEIGHTS")] != []
    monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", "diffusers/LTX-2.3-Diffusers")
    settings.cache_clear()
    assert main(["plan", "extend-prefix", str(tmp_path / "request.json")]) == 0
    told = capfd.readouterr()
    assert "RANDOM" not in told.err + told.out

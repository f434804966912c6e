"""A rejected run that is tried again after its data were mended where they lie: it takes what is there now."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.endpoints import FLOWS
from flows.local_run import tell_samples
from schemas.endpoints import ENDPOINTS
from schemas.rejections import NothingLeft
from schemas.result import TrainingResult
from schemas.settings import settings
from tests.support.clips import tone, zipped

pytestmark = [pytest.mark.usefixtures("prefect"), pytest.mark.slow(seconds=15)]
NAME = "audio-extend-prefix"
SMALL = {"rank": 8, "number_of_steps": 100, "audio_duration_seconds": 1, "conditioning_seconds": 0.3}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *words):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web site, a folder of this machine and a bucket with one archive; mending changes all three."""
    monkeypatch.setenv("LTX_FLOWS_ALLOW_PRIVATE_HOSTS", "true")
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "site").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "site" / "clips.zip", f"http://127.0.0.1:{server.server_port}/clips.zip"
        server.shutdown()


def archive(folder, seconds):
    return zipped({name: tone(folder / name, seconds) for name in ("a.wav", "b.wav")})


def tried(run, request):
    """One try of a run, as Prefect's Retry makes it."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow_sync
    from prefect.states import Pending

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Pending(), force=True)
        again = client.read_flow_run(run)
    return run_flow_sync(FLOWS[NAME], flow_run=again, parameters={"request": request}, return_type="state")


def new_run(request):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run(FLOWS[NAME], parameters={"request": request.model_dump(mode="json")}).id


def test_retry_after_mending_the_data_at_the_same_url_completes(site, tmp_path, capsys):
    path, url = site
    path.write_bytes(archive(tmp_path, 0.5))
    request = ENDPOINTS[NAME].read({"training_data_url": url, **SMALL})
    run = new_run(request)
    rejected = tried(run, request)
    assert (rejected.name, type(rejected.result(raise_on_failure=False))) == ("Rejected", NothingLeft)
    path.write_bytes(archive(tmp_path, 1.5))
    result = tried(run, request).result()
    assert isinstance(result, TrainingResult)
    assert (result.samples.model_dump(), result.loss_curve.file_name) == (
        {"kept": 2, "skipped": 0, "warned": 2},
        "loss_curve.svg",
    )
    assert "random weights" in result.warnings[0]
    capsys.readouterr()
    tell_samples(result)
    told = capsys.readouterr().err
    assert told.startswith("2 samples trained on, 0 skipped, 2 of those kept with a warning; dataset_report.json says")
    cached = new_run(request)
    assert tried(cached, request).name == "Completed"
    assert {"lora", "loss-curve", "config", "report", "loss-curve-file", "bill", "warning"} <= cards_of(cached)


def cards_of(run):
    """Keys of the cards on a run's page; its steps came from the cache."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        return {each.key for each in client.read_artifacts(artifact_filter=mine)}


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_files_and_objects_are_looked_at_again_too(kind, site, tmp_path, request):
    path, _ = site
    url = path.as_uri()
    if kind == "s3":
        bucket, url = request.getfixturevalue("s3"), "s3://data/mended/clips.zip"

    def put(seconds):
        path.write_bytes(archive(tmp_path, seconds))
        if kind == "s3":
            bucket.put_file(str(path), "data/mended/clips.zip")

    put(0.5)
    asked = ENDPOINTS[NAME].read({"training_data_url": url, **SMALL})
    run = new_run(asked)
    first = tried(run, asked).result(raise_on_failure=False)
    put(0.75)
    again = tried(run, asked).result(raise_on_failure=False)
    assert "have 0.5 s" in first.skipped[0] and "have 0.75 s" in again.skipped[0]

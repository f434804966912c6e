"""What is secret in a request stays there: user, password, query and fragment of its URLs.

A whole run would show no more than its parts; the one place that a run's parameters are kept is Prefect's database, so
a real Prefect run is looked at, too.
"""

import functools
import http.server
import json
import logging
import threading
import traceback

import pytest

from flows.unfinished import Unfinished, unfinished
from schemas.endpoints import ENDPOINTS
from schemas.errors import LtxFlowsError
from schemas.redaction import without_secrets
from schemas.rejections import TRAINING_DATA
from schemas.settings import settings
from tasks.ledger.bills import bills
from tasks.sources.fetch import fetch, name_of, state_of
from tests.support.clips import tone, zipped

SECRETS = ("user-name", "pass-word", "signature-in-query", "fragment-too")
ENDPOINT = ENDPOINTS["audio-extend-prefix"]


def secret_url(host, path="clips.zip"):
    return f"http://user-name:pass-word@{host}/{path}?X-Amz-Signature=signature-in-query#fragment-too"


def told(text):
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server on loopback with an archive; everything is logged that anyone logs."""
    tone(tmp_path / "short.wav", 0.3)
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "clips.zip").write_bytes(zipped({"short.wav": tmp_path / "short.wav"}))
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("LTX_FLOWS_ALLOW_PRIVATE_HOSTS", "true")
    settings.cache_clear()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("url", [secret_url("host"), secret_url("host", ""), "s3://user-name:pass-word@host"])
def test_a_files_name_is_without_secrets(url):
    assert told(name_of(url)) == []


def test_the_config_is_without_secrets():
    request = {"training_data_url": secret_url("host"), "validation": [{"audio_url": secret_url("host")}], "rank": 8}
    bare = without_secrets(request)
    assert told(json.dumps(bare)) == []
    assert bare["validation"] == [{"audio_url": "http://host/clips.zip"}]


def test_a_download_tells_no_log_and_no_manifest(web, caplog):
    caplog.set_level(logging.INFO)
    file = fetch(secret_url(web), TRAINING_DATA)
    assert (file.name, told(file.model_dump_json()), told(caplog.text)) == ("clips.zip", [], [])


@pytest.mark.parametrize(
    "url",
    [
        secret_url("127.0.0.1:9"),
        secret_url("no-such-host.invalid"),
        secret_url("127.0.0.1:99999"),
        secret_url("[::1"),
        "ftp://user-name:pass-word@host/clips.zip?signature-in-query",
        "s3://user-name:pass-word@host?signature-in-query",
        "file:///nowhere/clips.zip?signature-in-query#fragment-too",
    ],
)
def test_a_download_that_fails_tells_neither_in_its_error_nor_in_its_traceback(url, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("tasks.sources.http.RESUMES", 0)
    with pytest.raises(LtxFlowsError) as raised:
        fetch(url, TRAINING_DATA)
    shown = "".join(traceback.format_exception(raised.value)).replace(repr(url), "")
    assert told(shown + str(raised.value) + caplog.text) == []


def test_the_note_of_a_run_is_without_secrets(home):
    request = ENDPOINT.read({"training_data_url": secret_url("host")})
    with pytest.raises(InterruptedError), unfinished(ENDPOINT.name, request) as note:
        raise InterruptedError
    assert told(note.path.name + note.path.read_text()) == []


@pytest.mark.usefixtures("prefect")
def test_prefect_keeps_none_of_a_typed_run(web, tmp_path, caplog):
    from prefect.client.orchestration import get_client

    from flows.endpoints import FLOWS
    from flows.local_run import run_or_continue

    caplog.set_level(logging.INFO)
    request = ENDPOINT.read({"training_data_url": secret_url(web)})
    note = Unfinished(tmp_path / "note")
    note.path.touch()
    state = run_or_continue(FLOWS[ENDPOINT.name], request, note)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(note.last_run())
        steps = client.read_task_runs()
    assert state.name == "Rejected"  # the sound is too short: what matters is what was told until then
    kept = run.model_dump_json() + "".join(step.model_dump_json() for step in steps) + state.message
    assert told(kept + caplog.text) == []
    assert run.parameters["request"]["training_data_url"] == f"http://{web}/clips.zip"


@pytest.mark.usefixtures("prefect")
def test_a_run_that_was_cut_off_goes_on_under_its_own_id_and_a_rejected_one_is_over(web, tmp_path, home):
    from flows.endpoints import FLOWS
    from flows.local_run import run_or_continue

    request = ENDPOINT.read({"training_data_url": f"http://{web}/clips.zip"})
    note = Unfinished(tmp_path / "note")
    note.path.touch()
    run_or_continue(FLOWS[ENDPOINT.name], request, note)
    first = note.first_run()
    run_or_continue(FLOWS[ENDPOINT.name], request, note)
    assert (note.first_run(), bills()) == (first, [])


def test_state_of_a_file_shows_whether_it_has_changed(tmp_path):
    path = tmp_path / "clips.zip"
    path.write_bytes(b"one")
    before = state_of(path.as_uri())
    path.write_bytes(b"three")
    assert state_of(path.as_uri()) != before
    assert state_of("https://host/clips.zip") is None

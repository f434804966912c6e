"""Disks, places, the ledger and the base model, as `doctor` finds them."""

import json
import re
import socket
import sqlite3
import subprocess
import sys

import pytest

from tasks.checks import places
from tests.support.doctor import REAL, WHOLE


def test_a_disk_that_is_too_small_for_a_base_that_is_to_be_fetched_is_named(monkeypatch, setting, quick):
    setting(BASE_MODEL=REAL)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": int(50e9)}))
    [finding] = quick("disk")
    assert (finding.ready, finding.state.count("50.0 GB free"), "101.0 GB needed" in finding.state) == (False, 2, True)
    assert finding.state.endswith("or put LTX_FLOWS_HOME or HF_HOME on another disk")


def test_a_home_that_is_a_file_is_named(setting, quick, tmp_path):
    (tmp_path / "file").touch()
    setting(HOME=tmp_path / "file")
    [finding] = quick("disk")
    assert (finding.ready, "file may not be read or written" in finding.state) == (False, True)


@pytest.mark.parametrize("what", ["store", "outputs"])
@pytest.mark.parametrize("url", ["/dev/null/place", "nothing://place", "s3://nobody/place"])
def test_a_place_that_cannot_be_written_is_named(what, url, setting, quick, request):
    if url.startswith("s3"):
        request.getfixturevalue("s3")
    setting(**{what.upper(): url})
    [finding] = quick(what)
    assert (finding.ready, url.rstrip("/") in finding.state) == (False, True), finding.state
    assert re.search("check its owner|write a folder or s3://|create it first", finding.state)


@pytest.mark.parametrize("what", ["store", "outputs"])
def test_a_place_on_s3_is_written_read_back_and_cleared(what, s3, setting, quick):
    setting(**{what.upper(): f"s3://data/doctor-{what}"})
    assert [finding.ready for finding in quick(what)] == [True]
    assert s3.find(f"data/doctor-{what}") == []


def test_a_store_that_gives_back_something_else_is_named(setting, quick, monkeypatch):
    monkeypatch.setattr("tasks.storage.folder.Place.read", lambda place, address: b"[]")
    [finding] = quick("outputs")
    assert (finding.ready, "does not give back what was put there" in finding.state) == (False, True)


def test_a_ledger_of_a_newer_version_is_named(home, quick):
    assert [finding.ready for finding in quick("ledger")] == [True]
    with sqlite3.connect(home / "ledger.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    [finding] = quick("ledger")
    assert (finding.ready, finding.state.startswith("the ledger was used by a newer ltx-flows")) == (False, True)


def test_a_ledger_whose_driver_is_not_installed_is_named(setting, quick):
    setting(DATABASE_URL="postgresql+pg8000://ltx:geheim@host/ledger")
    [finding] = quick("ledger")
    assert (finding.ready, 'pip install "ltx-flows[postgres]"' in finding.state) == (False, True)
    assert "geheim" not in finding.state


def test_a_damaged_ledger_is_named(home, quick):
    home.mkdir()
    (home / "ledger.db").write_bytes(b"garbage" * 1000)
    [finding] = quick("ledger")
    assert (finding.ready, "is damaged" in finding.state) == (False, True)


def test_a_prefect_server_that_does_not_answer_is_named(monkeypatch, quick):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    [finding] = quick("Prefect server")
    assert (finding.ready, "unset PREFECT_API_URL" in finding.state) == (False, True)


def test_a_taken_port_is_said(quick):
    with socket.create_server(("127.0.0.1", 0)) as door:
        from flows.serve import Serving

        taken = type("Taken", (Serving,), {"__init__": lambda self: Serving.__init__(self, port=door.getsockname()[1])})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flows.serve.Serving", taken)
            [finding] = quick("API port")
    assert "taken: `serve` runs, or needs another --port" in finding.state


@pytest.fixture
def bundle(tmp_path):
    """A base model's folder that is all headers."""
    folder = tmp_path / "base"
    for component in ("transformer", "connectors", "vae", "audio_vae", "vocoder", "text_encoder", "tokenizer"):
        (folder / component).mkdir(parents=True)
    header = json.dumps({"weight": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (folder / "vae" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (folder / "transformer" / "config.json").write_text('{"cross_attn_mod": true}')
    return folder


SPOILS = {
    "has no folder vocoder": lambda folder: (folder / "vocoder").rmdir(),
    "is damaged: it has": lambda folder: (folder / "vae" / "model.safetensors").write_bytes(bytes(20)),
    "lacks 1 of its files, e.g. b.safetensors": lambda folder: (
        folder / "text_encoder" / "model.safetensors.index.json"
    ).write_text('{"weight_map": {"x": "b.safetensors"}}'),
    "config.json cannot be read": lambda folder: (folder / "transformer" / "config.json").write_text("{"),
    "is not an LTX-2.3": lambda folder: (folder / "transformer" / "config.json").write_text("{}"),
}


@pytest.mark.parametrize("words", [None, *SPOILS])
def test_a_base_model_is_looked_at_by_its_headers(words, bundle, setting, quick):
    if words:
        SPOILS[words](bundle)
    setting(BASE_MODEL=bundle)
    [finding] = quick("base model")
    assert (finding.ready, (words or "1 weights; by their headers the files are whole") in finding.state) == (
        not words,
        True,
    )


@pytest.mark.parametrize("name", ["nowhere/at/all", "../nowhere"])
def test_a_base_model_that_can_be_nowhere_is_named(name, setting, quick):
    setting(BASE_MODEL=name)
    [finding] = quick("base model")
    assert (finding.ready, "neither a folder nor the id" in finding.state) == (False, True)


def test_the_checks_need_no_torch_to_say_that_it_is_broken(home):
    code = "import sys; sys.modules['torch'] = None\nfrom flows.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, [line[9:].split(":")[0] for line in lines]) == (1, WHOLE), done.stderr
    assert "torch" in next(line for line in lines if "device:" in line)

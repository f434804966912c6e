"""HOME is its owner's alone, whatever makes it first, also where it was open to others before."""

import asyncio
import json
import os
import stat
from types import SimpleNamespace
from uuid import uuid4

import pytest

from flows import cli, pipeline, serve
from flows.cli import main
from flows.hosting import prefect_server as server
from schemas.endpoints import ENDPOINTS
from tasks.ledger.bills import bills
from tasks.storage import home as homes
from tasks.storage.home import private_home
from tasks.storage.store import temporary_folder
from tests.support.clips import tone, zipped
from tests.support.service_app import api

REQUEST = {"rank": 8, "number_of_steps": 100, "audio_duration_seconds": 1.0, "conditioning_seconds": 0.4}


@pytest.fixture
def request_file(tmp_path):
    tone(tmp_path / "a.wav", 1.2)
    (tmp_path / "sounds.zip").write_bytes(zipped({"a.wav": tmp_path / "a.wav"}))
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST | {"training_data_url": "sounds.zip"}))
    return path


@pytest.fixture(params=["new", "open to others"])
def home(request, home):
    previous = os.umask(0o022)
    if request.param == "open to others":
        home.mkdir(mode=0o755)
    yield home
    os.umask(previous)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_after_plan_it_is_its_owners_alone(home, request_file):
    assert main(["plan", "audio-extend-prefix", str(request_file)]) == 0
    assert mode(home) == 0o700


@pytest.mark.parametrize("typed", [["run", "audio-extend-prefix"], ["demo"]])
def test_when_a_run_begins_it_is_its_owners_alone(home, request_file, monkeypatch, typed):
    seen = []
    monkeypatch.setattr(cli, "_run_flow", lambda *_: seen.append(mode(home)) or None)
    monkeypatch.setattr("flows.demo.summary", lambda result: "")
    main([*typed, str(request_file)] if typed[0] == "run" else typed)
    assert seen == [0o700]


@pytest.mark.parametrize("typed", [["bills"], ["cache", "du"], ["doctor"]])
def test_after_a_look_at_it_it_is_its_owners_alone(home, typed):
    main(typed)
    assert mode(home) == 0o700


def test_when_a_worker_begins_a_run_it_is_its_owners_alone(home, monkeypatch):
    of_run = SimpleNamespace(flow_run=SimpleNamespace(id=str(uuid4())))
    monkeypatch.setattr(pipeline, "runtime", of_run)
    monkeypatch.setattr(pipeline, "called_off", lambda run_id: True)
    pipeline.run_endpoint(ENDPOINTS["extend-prefix"], None)
    assert mode(home) == 0o700


def test_when_the_service_starts_it_is_its_owners_alone(home, monkeypatch):
    async def start():
        async with api():
            return mode(home)

    monkeypatch.setenv("LTX_FLOWS_DATABASE_URL", f"sqlite:///{home.parent}/elsewhere.db")
    assert asyncio.run(start()) == 0o700


def test_when_prefects_server_starts_it_is_its_owners_alone(home, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://somewhere/api")
    monkeypatch.setattr(server, "healthy", lambda url: True)
    monkeypatch.setattr(server, "prefect_environment", dict)
    with server.prefect_server():
        assert mode(home) == 0o700


def test_when_serve_takes_it_it_is_its_owners_alone(home):
    with serve._only_one():
        assert (mode(home), mode(home / "server")) == (0o700, 0o700)


def test_the_ledger_and_the_store_make_it_for_its_owner_alone(home):
    bills()
    assert mode(home) == 0o700
    home.chmod(0o755)
    with temporary_folder():
        assert mode(home) == 0o700


def test_somebody_elses_is_left_as_it_is(home, monkeypatch):
    home.mkdir(exist_ok=True, mode=0o755)
    monkeypatch.setattr(homes.os, "geteuid", lambda: home.stat().st_uid + 1)
    before = mode(home)
    assert (private_home(), mode(home)) == (home, before)


def test_a_folder_that_is_everybodys_on_purpose_stays_so(home):
    home.mkdir(exist_ok=True)
    home.chmod(0o1777)
    private_home()
    assert mode(home) == 0o1777

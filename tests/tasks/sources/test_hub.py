"""Base models of the Hub: fetched by a step of their own, after the data's checks, at one revision for a run."""

import shutil

import pytest
from huggingface_hub import constants

from flows.doctor import examine
from schemas.endpoints import ENDPOINTS
from schemas.errors import BaseModelNotHere, BaseModelUnavailable, DownloadInterrupted
from schemas.rejections import SilentClip
from schemas.settings import settings
from tasks import base_model as base_module
from tasks.base_model import COMPONENTS, base
from tasks.sources.hub import fetch_snapshot, newest_revision, snapshot
from tests.support.clips import video, zipped
from tests.support.hub import NAME, Hub
from tests.support.tensors import tiny_base


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The tiny base, on the Hub, and nothing of it on this machine."""
    folder = shutil.copytree(tiny_base(), tmp_path / "hub")
    with Hub(folder) as hub:
        for name in ("ENDPOINT", "_HF_DEFAULT_ENDPOINT"):
            monkeypatch.setattr(constants, name, hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", NAME)
        settings.cache_clear()
        base_module._located.cache_clear()
        yield hub
        base_module._located.cache_clear()


def test_a_model_is_fetched_with_its_progress_in_bytes_and_not_again(hub):
    told = []
    folder = fetch_snapshot(
        NAME, newest_revision(NAME, COMPONENTS), COMPONENTS, lambda done, total: told.append((done, total))
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(COMPONENTS)
    size = sum(path.stat().st_size for path in hub.folder.glob("*/*") if path.parent.name in COMPONENTS)
    assert told[-1] == (size, size)
    fetched = len(hub.fetched)
    assert fetch_snapshot(NAME, hub.commit, COMPONENTS, lambda done, total: None) == folder
    assert len(hub.fetched) == fetched


def test_doctor_downloads_nothing(hub):
    state = {finding.what: finding for finding in examine()}["base model"]
    assert (state.ready, "the first run downloads it" in state.state, hub.fetched) == (True, True, [])


def test_what_is_not_here_is_said_to_be_so_without_asking_the_hub(hub):
    with pytest.raises(BaseModelNotHere):
        base()
    assert hub.asked == []


def test_a_model_whose_licence_was_not_accepted_says_what_to_do(hub):
    hub.gated = True
    with pytest.raises(BaseModelUnavailable, match=r"accept its licence .* `hf auth login` or set HF_TOKEN"):
        newest_revision(NAME, COMPONENTS)


def test_a_model_that_is_nowhere_is_named(hub):
    with pytest.raises(BaseModelUnavailable, match="ours/nothing is neither a folder nor the id of a model on the Hub"):
        newest_revision("ours/nothing", COMPONENTS)


def test_a_hub_that_does_not_answer_is_asked_again_unless_the_model_is_here(hub):
    fetch_snapshot(NAME, hub.commit, COMPONENTS, lambda done, total: None)
    hub.down = True
    assert newest_revision(NAME, COMPONENTS) == snapshot(NAME, COMPONENTS).name == hub.commit
    with pytest.raises(DownloadInterrupted):
        newest_revision("ours/another", COMPONENTS)


@pytest.fixture
def request_for(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()

    def make(*, silent):
        clip = video(tmp_path / "a.mp4", 20, sound=not silent)
        (tmp_path / "clips.zip").write_bytes(zipped({"a.mp4": clip}))
        fields = {"resolution": "low", "aspect_ratio": "16:9", "number_of_frames": 17, "with_audio": True}
        return ENDPOINTS["extend-prefix"].read({"training_data_url": (tmp_path / "clips.zip").as_uri(), **fields})

    return make


@pytest.mark.usefixtures("prefect")
def test_data_that_are_wrong_are_told_before_anything_of_the_model_is_fetched(hub, request_for):
    from flows.endpoints import FLOWS

    state = FLOWS["extend-prefix"](request_for(silent=True), return_state=True)
    assert isinstance(state.result(raise_on_failure=False), SilentClip)
    assert hub.asked == []


@pytest.mark.usefixtures("prefect")
def test_a_run_keeps_to_its_revision_although_the_hub_moves_on_and_on_another_machine_too(hub, tmp_path, monkeypatch):
    from prefect import flow

    from tasks.base_model import base_model_of
    from tasks.run_id import DELIVERED_AS

    @flow
    def resolve():
        return base_model_of(NAME)

    mark = DELIVERED_AS.set("one run")
    try:
        first = resolve()
        hub.commit = "b" * 40
        shutil.rmtree(tmp_path / "cache")  # another machine has nothing of it
        base_module._located.cache_clear()
        again = resolve()
    finally:
        DELIVERED_AS.reset(mark)
    assert (first.revision, again) == ("a" * 40, first)
    hub.fetched.clear()
    assert base_module._located(NAME, first.revision, "") == again.location
    assert resolve().revision == "b" * 40


# --- what doctor says of the Hub ----------------------------------------------------------------------------------


def the_hub(online=False):
    return {finding.what: finding for finding in examine(online=online)}["Hub"]


def test_without_a_token_a_model_that_is_to_be_fetched_is_not_ready_and_the_hub_is_not_asked(
    hub, monkeypatch, tmp_path
):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert (the_hub().ready, "no token to fetch" in the_hub().state, hub.asked) == (False, True, [])
    (tmp_path / "token").write_text("hf_geheim")
    told = the_hub()
    assert (told.ready, f"a token is in {tmp_path / 'token'}" in told.state, "geheim" in told.state) == (
        True,
        True,
        False,
    )
    monkeypatch.setenv("HF_TOKEN", "hf_geheim")
    assert the_hub().state.startswith("a token is in HF_TOKEN")


def test_asked_for_the_hub_says_whether_the_licences_are_accepted(hub):
    assert the_hub(online=True).state.endswith(f"{NAME} may be read")
    assert hub.fetched == []
    hub.gated = True
    told = the_hub(online=True)
    assert (told.ready, "accept its licence on its page" in told.state) == (False, True)
    hub.gated, hub.down = False, True
    assert (the_hub(online=True).ready, "the Hub does not answer" in the_hub(online=True).state) == (False, True)

"""`doctor` says what is ready and, for what is missing, the line to type; the steps that need it say the same."""

import pytest

from flows.doctor import examine
from schemas.errors import MissingTool
from schemas.settings import settings
from tests.support.clips import kept, video


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A PATH without any program."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_machine_that_has_everything_is_ready():
    findings = {finding.what: finding for finding in examine()}
    assert [what for what, finding in findings.items() if not finding.ready] == []
    assert "random weights" in findings["base model"].state


@pytest.mark.usefixtures("bare_machine")
def test_missing_programs_are_named_with_the_line_to_type():
    missing = {finding.what: finding.state for finding in examine() if not finding.ready}
    assert missing == {
        "ffmpeg": "type: apt-get install ffmpeg",
        "ffprobe": "type: apt-get install ffmpeg",
        "rubberband": "type: apt-get install rubberband-cli",
    }


def test_a_base_model_that_does_not_load_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", str(tmp_path))
    settings.cache_clear()
    assert [finding.what for finding in examine() if not finding.ready] == ["base model"]


def test_a_prefect_server_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (missing,) = [finding for finding in examine() if not finding.ready]
    assert (missing.what, "unset PREFECT_API_URL" in missing.state) == ("Prefect server", True)


def test_the_step_that_needs_ffprobe_says_how_to_get_it(tmp_path, monkeypatch):
    from tasks.media.probe import probe

    clip = video(tmp_path / "a.mp4", 9)
    kept(clip)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="ffprobe is not installed; type: apt-get install ffmpeg"):
        probe(clip)

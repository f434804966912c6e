"""`doctor` says what is ready and, for what is missing, the remedy; its list is whole whatever one check comes upon."""

import re
import time
from pathlib import Path

import pytest

from flows import doctor
from flows.cli import main
from flows.doctor import examine
from schemas.errors import MissingTool
from tasks.checks import device
from tasks.media.programs import ENCODERS, FILTERS, abilities
from tests.support.clips import kept, video
from tests.support.doctor import WHOLE, found


def test_a_machine_that_has_everything_is_ready():
    findings = found()
    assert [what for what, finding in findings.items() if not finding.ready] == []
    assert list(findings) == WHOLE
    assert "RANDOM WEIGHTS" in findings["base model"].state


# --- the list is always whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("broken"), ImportError("libcudart.so"), SystemExit(3), OSError("disk")])
def test_a_check_that_crashes_is_a_failing_line_and_not_the_end(error, monkeypatch):
    def crash(*arguments, **options):
        raise error

    monkeypatch.setattr(doctor, "import_module", crash)
    findings = found()
    assert list(findings) == WHOLE
    crashed = [what for what, finding in findings.items() if not finding.ready]
    assert crashed == [what for what in WHOLE if what not in ("settings", "Prefect server", "API port")]
    assert str(error) in findings["disk"].state


def test_a_check_that_hangs_is_a_failing_line_and_not_the_end(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    monkeypatch.setattr(
        doctor, "_checks", lambda online: [("store", lambda: time.sleep(5)), ("API port", doctor._port)]
    )
    assert [(each.what, each.ready, each.state[:12]) for each in examine()][1:] == [
        ("store", False, "no answer in"),
        ("API port", True, "8484, free" if "free" in doctor._port().state else "8484, taken:"),
    ]


def test_settings_that_cannot_be_read_are_lines_and_the_rest_is_looked_at_without_them(setting):
    setting(DEVICES="zero", STOER="s3://team/store", COMPILE="perhaps")
    findings = list(examine())
    assert [each.state.split("=")[0].split(" is ")[0] for each in findings if each.what == "setting"] == [
        "LTX_FLOWS_STOER",
        "LTX_FLOWS_DEVICES",
        "LTX_FLOWS_COMPILE",
    ]
    assert [each.what for each in findings if each.what != "setting"] == WHOLE[1:]
    assert [each.what for each in findings if not each.ready] == ["setting"] * 3


def test_the_command_prints_every_line_and_its_exit_status_says_whether_something_is_missing(setting, capfd):
    setting(DEVICE="cuda:7")
    assert main(["doctor"]) == 1
    told = capfd.readouterr()
    assert [line[9:].split(":")[0] for line in told.out.splitlines()] == WHOLE
    assert told.err.splitlines()[-1].startswith("ltx-flows: not ready: ") and "device" in told.err


def test_the_command_lists_settings_that_cannot_be_read(setting, capfd, quick):
    quick("API port")
    setting(DEVICES="zero")
    assert main(["doctor"]) == 1
    assert "MISSING  setting: LTX_FLOWS_DEVICES=zero must be a whole number" in capfd.readouterr().out


# --- programs -----------------------------------------------------------------------------------------------------


def test_missing_programs_are_named_with_the_line_to_type(tmp_path, monkeypatch, quick):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {finding.what: finding.state for finding in quick("ffmpeg", "ffprobe", "rubberband")} == {
        "ffmpeg": "type: apt-get install ffmpeg",
        "ffprobe": "type: apt-get install ffmpeg",
        "rubberband": "type: apt-get install rubberband-cli",
    }


@pytest.mark.parametrize(("lacking", "kind"), [("libx264", "encoders"), ("zscale", "filters")])
def test_an_ffmpeg_without_what_is_used_is_named_with_what_it_lacks(lacking, kind, program, quick):
    program("ffmpeg", f'/usr/bin/ffmpeg "$@" | if [ "$2" = -{kind} ]; then grep -v {lacking}; else cat; fi')
    [ffmpeg] = quick("ffmpeg")
    assert (ffmpeg.ready, f" lacks {lacking}; put a full build" in ffmpeg.state) == (False, True)


def test_a_program_that_says_nothing_is_a_failing_line(program, quick):
    program("rubberband", "exit 127")
    [rubberband] = quick("rubberband")
    assert (rubberband.ready, rubberband.state.startswith("the check itself failed")) == (False, True)


def test_all_filters_and_encoders_of_our_commands_are_asked_for():
    media = Path(device.__file__).parents[1] / "media"
    code = "".join((media / name).read_text() for name in ("filters.py", "ffmpeg.py"))
    words = set(re.findall(r"[a-z0-9]+", " ".join(re.findall(r'"[^"\n]*"', code))))
    used = set(re.findall(r"[\",]([a-z0-9]+)(?:=|\")", code)) & abilities("filters")
    assert used - {"colorspace"} <= FILTERS <= words  # which is an option, too
    assert set(re.findall(r'codec": "(\w+)"', code)) <= ENCODERS


def test_the_step_that_needs_ffprobe_says_how_to_get_it(tmp_path, monkeypatch):
    from tasks.media.probe import probe

    clip = video(tmp_path / "a.mp4", 9)
    kept(clip)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="ffprobe is not installed; type: apt-get install ffmpeg"):
        probe(clip)

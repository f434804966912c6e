"""The dataset report: every file of the archive, what became of it, and what would win back more."""

import json
import re

import pytest

from schemas.layout import AUDIO_PAIRS, PLAIN_AUDIO, PLAIN_VIDEOS, VIDEO_PAIRS
from schemas.media import Bucket, Clip, FitOptions, FittedSample, FittedVideo, Picture
from schemas.plan import Plan, Prefix, Reference, generate
from schemas.report import DatasetReport, Remark
from tasks.board import board
from tasks.dataset.archive import extract_archive
from tasks.dataset.matching import match_samples
from tasks.fit import fit_samples
from tasks.manifests import Fitted, Matched
from tasks.reports.dataset_page import page
from tasks.reports.dataset_report import dataset_report, grouped
from tasks.reports.run_page import dataset_card
from tasks.storage.outputs import Outputs
from tasks.upload import upload_results
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=33, fps=24))
VIDEO_AUDIO = Plan(video=generate(Prefix(steps=2)), audio=generate(Prefix(steps=9)))
AUDIO = Plan(audio=generate(Prefix(steps=18)))
AS_IS = FitOptions(normalize=False)


@pytest.fixture
def reported(tmp_path):
    def report(files, layout, plan, bucket=BUCKET, fitting=AS_IS):
        matched = match_samples(extract_archive(clips.archive(tmp_path / "data.zip", files)), layout)
        return dataset_report(matched, fit_samples(matched.samples, bucket, plan.tracks, fitting), bucket)

    return report


@pytest.fixture
def film(tmp_path):
    def make(frames, fps=24):
        return clips.video(tmp_path / f"{frames}at{fps}.mp4", frames, fps, sound=True)

    return make


def test_every_file_of_the_archive_has_its_fate(reported, film):
    good, short = film(40), film(20)
    names = ["a/good.txt", "short.txt", "orphan.txt", "notes.md", "__MACOSX/._x"]
    text = dict.fromkeys(names, b"a caption") | {"a/good.mp4": good, "short.mp4": short, "empty.mp4": good}
    report = reported(text | {"empty.txt": b" "}, PLAIN_VIDEOS, VIDEO_AUDIO)
    assert [(row.file, row.fate, row.sample) for row in report.files] == [
        ("__MACOSX/._x", "ignored", None),
        ("a/good.mp4", "kept", "a/good"),
        ("a/good.txt", "caption", "a/good"),
        ("empty.mp4", "kept", "empty"),
        ("empty.txt", "caption", "empty"),
        ("notes.md", "ignored", None),
        ("orphan.txt", "ignored", None),
        ("short.mp4", "skipped", "short"),
        ("short.txt", "caption", "short"),
    ]
    reasons = {row.file: row.reason for row in report.files}
    assert (
        reasons["__MACOSX/._x"].startswith("a hidden file")
        and reasons["notes.md"] == "neither a media file nor a caption"
    )
    assert (
        reasons["orphan.txt"] == "a caption without a clip: no sample is called orphan"
        and reasons["empty.txt"] == "it is empty"
    )
    assert reasons["short.mp4"].startswith("have 20 frames at 24 fps, need 33")


def test_captions_that_could_both_be_meant_are_in_the_report(reported, tmp_path):
    files = {"a.wav": clips.tone(tmp_path / "t.wav", 1.2), "x/a.txt": b"one", "y/a.txt": b"other"}
    report = reported(files, PLAIN_AUDIO, AUDIO, Bucket(seconds=1.0))
    assert [(row.file, row.fate) for row in report.files] == [
        ("a.wav", "kept"), ("x/a.txt", "ignored"), ("y/a.txt", "ignored"),
    ]  # fmt: skip


def test_a_kept_clip_tells_its_fitted_window_and_its_warnings(reported, film):
    report = reported({"fast.mp4": film(60, 30)}, PLAIN_VIDEOS, VIDEO_AUDIO, fitting=FitOptions())
    [row] = report.files
    assert (row.video.frames, row.video.fps, row.video.start_seconds) == (33, 30.0, 0.0)
    assert (row.audio.seconds, row.audio.stretch) == (pytest.approx(1.1), 1.0)
    assert row.audio.gain > 1 and row.warnings[1].startswith("the target is at 30 fps, frame_rate is 24")


def test_each_file_of_a_pair_has_its_role_and_its_own_warnings(reported, tmp_path):
    tone, silence = clips.tone(tmp_path / "a.wav", 1.2), clips.tone(tmp_path / "b.wav", 1.2, peak=0.0)
    plan = Plan(audio=generate(Reference()))
    report = reported({"n_start.wav": silence, "n_end.wav": tone}, AUDIO_PAIRS, plan, Bucket(seconds=1.0))
    assert [(row.role, row.warnings) for row in report.files] == [
        ("target", ["no caption"]),
        ("reference", ["the reference's sound is silent"]),
    ]


def test_a_clip_that_was_split_has_a_row_for_each_scene(reported, tmp_path):
    path = tmp_path / "film.mp4"
    cut = "color=red:s=64x64:r=24:d=2[a];color=blue:s=64x64:r=24:d=1[b];[a][b]concat=n=2"
    clips.ffmpeg("-filter_complex", cut, "-pix_fmt", "yuv420p", str(path))
    plan = Plan(video=generate(Prefix(steps=2)))
    fitting = AS_IS.model_copy(update={"split_above_seconds": 1.0})
    report = reported({"film.mp4": path, "film.txt": b"x"}, PLAIN_VIDEOS, plan, fitting=fitting)
    assert [(row.file, row.sample, row.fate) for row in report.files] == [
        ("film.mp4", "film#s001", "kept"),
        ("film.mp4", "film#s002", "skipped"),
        ("film.txt", "film", "caption"),
    ]
    assert [str(win) for win in report.wins] == [
        "number_of_frames 17 keeps 2 of 2",
        "auto_scale_input true keeps 2 of 2",
    ]


# --- warnings -----------------------------------------------------------------------------------------------------


def test_warnings_of_one_kind_are_one_line_and_each_stays_with_its_file(reported, film):
    files = {f"{number}.mp4": film(60 + number, 30) for number in range(3)} | {"slow.mp4": film(60, 12)}
    report = reported(files | {"a.mp4.txt": b"x", "b.csv": b"x"}, PLAIN_VIDEOS, VIDEO_AUDIO)
    lines = [line.partition(":")[0] for line in report.warnings]
    assert lines == [
        "2 files look like captions and are not used",
        "4 of 4 samples (0, 1, 2, slow)",
        "4 of 4 samples (0, 1, 2, slow)",
    ]
    assert "such as 0: the target is at 30 fps" in report.warnings[2]
    rates = {row.file: row.warnings[1].partition(",")[0] for row in report.files if row.role}
    assert rates == {f"{number}.mp4": "the target is at 30 fps" for number in range(3)} | {
        "slow.mp4": "the target is at 12 fps"
    }


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        ([], []),
        (["slow"], ["s0: slow"]),
        (["slow"] * 2, ["2 of 9 samples (s0, s1): slow"]),
        (["slow"] * 8, ["8 of 9 samples (s0, s1, s2, s3, s4 and 3 more): slow"]),
        (["slow", "loud", "slow"], ["2 of 9 samples (s0, s2): slow", "s1: loud"]),
    ],
)
def test_a_hundred_warnings_are_told_with_a_count_and_the_first_names(texts, lines):
    assert grouped([Remark(sample=f"s{n}", text=text) for n, text in enumerate(texts)], 9) == lines


def test_a_warning_of_a_clip_stands_beside_each_of_its_scenes_and_no_other_sample():
    clip = FittedVideo(source="x", seek_seconds=0, filters="", width=64, height=64, frames=9, fps=24)
    names = ("film#s001", "film#s002", "film: a")
    samples = tuple(
        FittedSample(name=name, caption="", files={"target": name}, clips={"target": Clip(video=clip)}, fps=24)
        for name in names
    )
    remarks = (Remark(sample="film", text="no caption"), Remark(sample="film: a", text="is dark"))
    matched = Matched(samples=(), captions={}, ignored=(), warnings=remarks[:1])
    report = dataset_report(matched, Fitted(samples=samples, skipped=(), warnings=remarks[1:]), BUCKET)
    assert [row.warnings for row in report.files] == [["no caption"], ["no caption"], ["is dark"]]


# --- what one change would win back -------------------------------------------------------------------------------


def test_one_parameter_change_is_offered_with_what_it_keeps(reported, film):
    files = {"a.mp4": film(40), "b.mp4": film(30), "c.mp4": film(20), "d.mp4": film(11)}
    prefix = AS_IS.model_copy(update={"frame_counts": (17, 25, 33)})
    report = reported(files, PLAIN_VIDEOS, VIDEO_AUDIO, fitting=prefix)
    assert [str(win) for win in report.wins] == [
        "number_of_frames 25 keeps 2 of 4",
        "number_of_frames 17 keeps 3 of 4",
        "auto_scale_input true keeps 4 of 4",
    ]  # not 9 frames: they would be all prefix


def test_a_change_that_is_offered_keeps_what_it_says(reported, film):
    files = {"a.mp4": film(40), "b.mp4": film(30), "c.mp4": film(20)}
    [first, second, third] = reported(files, PLAIN_VIDEOS, VIDEO_AUDIO).wins
    shorter = [BUCKET.picture.model_copy(update={"frames": win.value}) for win in (first, second)]
    kept = [reported(files, PLAIN_VIDEOS, VIDEO_AUDIO, Bucket.of(picture)).kept for picture in shorter]
    scaled = reported(files, PLAIN_VIDEOS, VIDEO_AUDIO, fitting=FitOptions(auto_scale=True, preserve_pitch=False)).kept
    assert [*kept, scaled] == [first.keeps, second.keeps, third.keeps] == [2, 3, 3]


def test_a_length_that_the_reference_factor_cannot_divide_is_not_offered(reported, film):
    plan = Plan(video=generate(Reference(temporal_scale=2)))
    files = {"a_start.mp4": film(40), "a_end.mp4": film(40), "b_start.mp4": film(40), "b_end.mp4": film(30)}
    halved = AS_IS.model_copy(update={"frame_counts": (17, 33)})
    assert str(reported(files, VIDEO_PAIRS, plan, fitting=halved).wins[0]) == "number_of_frames 17 keeps 2 of 2"


def test_a_shorter_sound_is_offered_in_hundredths_of_a_second(reported, tmp_path):
    lengths = {"a": 1.3, "b": 0.905, "c": 0.7, "d": 0.3}
    files = {f"{name}.wav": clips.tone(tmp_path / f"{name}.wav", length) for name, length in lengths.items()}
    prefix = AS_IS.model_copy(update={"least_seconds": 0.73})
    wins = reported(files, PLAIN_AUDIO, AUDIO, Bucket(seconds=1.0), prefix).wins
    assert [str(win) for win in wins] == ["audio_duration_seconds 0.9 keeps 2 of 4"]  # 0.7 s would be all prefix


def test_nothing_is_offered_where_nothing_was_skipped(reported, film):
    assert reported({"a.mp4": film(40)}, PLAIN_VIDEOS, VIDEO_AUDIO).wins == []


# --- as a file, as a page, in the UI ------------------------------------------------------------------------------


def test_the_page_shows_every_file_and_no_markup_of_its_names(reported, film):
    report = reported({"<b>x</b>.mp4": film(40), "y.mp4": film(20), "n&m.md": b""}, PLAIN_VIDEOS, VIDEO_AUDIO)
    shown = page(report)
    assert shown.startswith("<!doctype html>") and "http" not in shown and "<script" not in shown
    assert all(word in shown for word in ("&lt;b&gt;x&lt;", "n&amp;m.md", "auto_scale_input true keeps 2 of 2"))
    assert shown.count("<tr class=") == len(report.files) == 3


def test_the_page_tells_what_was_lost_first(reported, film):
    files = {"a.mp4": film(40), "a.txt": b"a caption", "z.mp4": film(20), "b.md": b""}
    shown = page(reported(files, PLAIN_VIDEOS, VIDEO_AUDIO))
    assert re.findall('<tr class="(.+?)">', shown) == ["skipped", "kept", "caption", "ignored"]
    assert "<h1>1 sample kept, 1 skipped; 1 file ignored</h1>" in shown


def test_the_report_is_the_same_after_json(reported, film):
    report = reported({"a.mp4": film(40), "b.mp4": film(20)}, PLAIN_VIDEOS, VIDEO_AUDIO)
    assert DatasetReport.model_validate(json.loads(report.model_dump_json())) == report


def test_the_page_lies_beside_the_json(reported, film, home, monkeypatch):
    from tasks import upload

    monkeypatch.setattr(upload, "describe_adapter", lambda weights: {})
    monkeypatch.setattr(upload, "losses_of", lambda adapter: {})
    monkeypatch.setattr(Outputs, "put_artifact", lambda self, artifact, name: self.put_text("x", name))
    report = reported({"a.mp4": film(40)}, PLAIN_VIDEOS, VIDEO_AUDIO)
    adapter, reel = type("Adapter", (), {"weights": None}), type("Reel", (), {"file": None, "suffix": ""})
    delivery = upload_results("run", adapter, reel, report, {}, None)
    assert delivery.dataset_report.content_type == "application/json"
    assert (home / "outputs" / "run" / "dataset_report.html").read_text() == page(report)


def test_the_runs_page_has_a_row_for_every_file(reported, film, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        "tasks.reports.run_page.create_table_artifact", lambda rows, **more: shown.update(rows=rows, **more)
    )
    dataset_card(reported({"a.mp4": film(40), "b.mp4": film(20)}, PLAIN_VIDEOS, VIDEO_AUDIO))
    board().drain(20)
    assert [(row["file"], row["fate"]) for row in shown["rows"][:2]] == [("a.mp4", "kept"), ("b.mp4", "skipped")]
    assert "auto_scale_input true keeps 2 of 2" in shown["description"]

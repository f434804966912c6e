"""A program that is killed in the middle is not the user's fault: it is run again, and what it gave is never kept."""

import os
import shutil

import numpy as np
import pytest

from schemas.errors import ProgramKilled, TransientError
from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Mask, Plan, Prefix, Reference, generate
from schemas.rejections import UnreadableClip
from tasks.base_model import base, precision
from tasks.dataset.scenes import detect_scenes
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_samples
from tasks.media import ffmpeg as ffmpeg_module
from tasks.media.ffmpeg import decode_audio
from tasks.media.probe import probe
from tasks.storage.store import store
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
PLAN = Plan(video=generate(Prefix(steps=1)))
MASKED = Plan(video=generate(Mask(), Reference()))
FRAME = 64 * 64 * 3


@pytest.fixture
def fails(tmp_path, monkeypatch):
    """A program that gives so many bytes and is then killed (or just ends), the first so many times that it is run."""

    def arrange(program, given, times=1, ending="kill -9 $$"):
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        left = folder / f"{program}.left"
        left.write_text(str(times))
        real = shutil.which(program, path=os.environ["PATH"].replace(f"{folder}:", ""))
        script = f"""#!/bin/bash
left=$(cat {left})
if [ "$left" -gt 0 ]; then
  echo $((left - 1)) >{left}
  {real} "$@" | head -c {given}
  {ending}
fi
exec {real} "$@"
"""
        (folder / program).write_text(script)
        (folder / program).chmod(0o755)
        if str(folder) not in os.environ["PATH"]:
            monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return arrange


@pytest.fixture
def film(tmp_path):
    return Sample(name="a", caption="", files={"target": clips.kept(clips.video(tmp_path / "a.mp4", 24))})


@pytest.fixture
def masked(tmp_path):
    """A clip, its reference, and a mask of five frames: black, and white from the fourth one on."""
    film = clips.kept(clips.video(tmp_path / "a.mp4", 24))
    shades = np.repeat(np.array([0, 0, 0, 255, 255], np.uint8), 64 * 64 * 3).tobytes()
    (tmp_path / "mask.rgb").write_bytes(shades)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-framerate", "24", "-i", str(tmp_path / "mask.rgb"))
    clips.ffmpeg(*raw, "-c:v", "ffv1", str(tmp_path / "mask.mkv"))
    return Sample(
        name="a", caption="", files={"target": film, "reference": film, "mask": clips.kept(tmp_path / "mask.mkv")}
    )


def fitted(sample, plan=PLAN):
    return fit_samples((sample,), BUCKET, plan.tracks, FitOptions()).samples


def encoded(samples):
    return encode_clips(samples, (), "", Encoders(base(), precision()), lambda done, total: None)[0]


def kept(kind):
    return [file for file in store().place.files() if file.address.startswith(f"latents/{kind}")]


def test_it_is_tried_again():
    assert issubclass(ProgramKilled, TransientError)


def test_a_clip_whose_check_is_killed_is_not_called_unreadable(film, fails):
    fails("ffmpeg", 5 * 16 * 16 * 3)
    with pytest.raises(ProgramKilled, match=r"ffmpeg was ended by signal 9 while it read a.mp4; run again"):
        fitted(film)
    assert fitted(film)[0].clips["target"].video.frames == 17


def test_a_clip_whose_encoding_is_killed_is_not_kept_and_comes_whole_the_next_time(film, fails):
    samples = fitted(film)
    fails("ffmpeg", 5 * FRAME)
    with pytest.raises(ProgramKilled):
        encoded(samples)
    assert kept("video") == []
    encoded(samples)
    assert len(kept("video")) == 1


def test_a_mask_that_is_cut_by_a_kill_is_not_kept_although_its_last_frame_may_be_held(masked, fails):
    samples = fitted(masked, MASKED)
    assert samples[0].clips["mask"].mask_frames == 5
    fails("ffmpeg", 3 * FRAME)
    with pytest.raises(ProgramKilled):
        encoded(samples)
    assert kept("mask") == []


def test_a_mask_that_gives_fewer_frames_than_fit_has_seen_is_not_kept(masked, fails):
    samples = fitted(masked, MASKED)
    fails("ffmpeg", 3 * FRAME, ending="exit 0")
    with pytest.raises(ProgramKilled, match="gave 5 frames before, and now 3; run again"):
        encoded(samples)
    assert kept("mask") == []
    encoded(samples)


def test_a_clip_that_gives_fewer_frames_than_fit_has_seen_is_not_called_unreadable(film, fails):
    samples = fitted(film)
    fails("ffmpeg", 5 * FRAME, ending="exit 0")
    with pytest.raises(ProgramKilled, match="gave 17 frames before, and now 5 of 17 frames"):
        encoded(samples)


def test_a_probe_that_is_killed_says_nothing_of_the_file(film, fails):
    fails("ffprobe", 10)
    with pytest.raises(ProgramKilled, match="ffprobe was ended by signal 9"):
        fitted(film)


def test_a_sound_whose_decoding_is_killed_is_not_cut_short(tmp_path, fails):
    path = clips.tone(tmp_path / "a.m4a", 1.0)
    audio = (
        fit_samples(
            (Sample(name="a", caption="", files={"target": clips.kept(path)}),),
            Bucket(seconds=0.9),
            Plan(audio=generate(Prefix(steps=2))).tracks,
            FitOptions(),
        )
        .samples[0]
        .clips["target"]
        .audio
    )
    fails("ffmpeg", 4 * 15_900)  # all but a hundredth of a second
    with pytest.raises(ProgramKilled):
        decode_audio(path, audio, 16_000)


def test_scenes_are_not_looked_for_in_half_a_film(tmp_path, fails):
    path = clips.video(tmp_path / "a.mp4", 40)
    fails("ffmpeg", 20 * 240 * 136 * 3, times=3)  # scenedetect asks for its version when it is imported
    with pytest.raises(ProgramKilled):
        detect_scenes(path, probe(path).video)


def test_a_stretch_that_is_killed_is_tried_again(film, tmp_path, fails):
    path = clips.video(tmp_path / "short.mp4", 10, sound=True)
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    both = Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2)))
    fails("rubberband", 0)
    with pytest.raises(ProgramKilled, match="rubberband was ended by signal 9"):
        fit_samples((sample,), BUCKET, both.tracks, FitOptions(auto_scale=True))


def test_a_clip_that_keeps_ffmpeg_busy_for_too_long_for_its_size_is_refused(film, tmp_path, fails, monkeypatch):
    monkeypatch.setattr(ffmpeg_module, "LEAST_SECONDS", 0.5)
    fails("ffmpeg", 0, ending="exec sleep 30")
    with pytest.raises(UnreadableClip, match="it takes more than 1 s to read"):
        fitted(film)

"""Scene splitting: long clips become one sample per scene, with their parent's caption."""

import pytest

from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Track
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_video
from tests.support import clips

TRACKS = (Track(role="target", modality="video"),)
BUCKET = Bucket.of(Picture(width=32, height=32, frames=17, fps=24))
SPLIT = FitOptions(split_above_seconds=2.0, normalize=False)
SCENES = (("red", 30), ("blue", 20), ("white", 12), ("green", 26))  # cuts at 30, 50, 62; 88 frames in all


@pytest.fixture
def film(tmp_path):
    inputs = [
        word
        for colour, frames in SCENES
        for word in ("-f", "lavfi", "-t", str(frames / 24), "-i", f"color={colour}:s=96x64:r=24")
    ]
    joined = f"{''.join(f'[{k}]' for k in range(len(SCENES)))}concat=n={len(SCENES)}"
    clips.ffmpeg(
        *inputs,
        "-filter_complex",
        joined,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "2",
        "-pix_fmt",
        "yuv420p",
        str(tmp_path / "film.mp4"),
    )
    return Sample(name="film", caption="a film", files={"target": clips.kept(tmp_path / "film.mp4")})


def colour(path, video):
    red, green, blue = decode_video(path, video)[[0, -1]].mean(axis=(0, 1, 2))
    if min(red, green, blue) > 200:
        return "white"
    return "red" if red > 200 else "blue" if blue > 200 else "green" if green > 100 and red < 50 else "mixed"


def test_each_scene_long_enough_is_a_sample_with_its_parents_caption_and_only_its_own_frames(film, tmp_path):
    fitted = fit_samples((film,), BUCKET, TRACKS, SPLIT)
    seen = [(s.name, s.caption, colour(tmp_path / "film.mp4", s.clips["target"].video)) for s in fitted.samples]
    assert seen == [("film#s001", "a film", "red"), ("film#s002", "a film", "blue"), ("film#s004", "a film", "green")]


def test_scenes_shorter_than_the_bucket_are_skipped_and_said_so(film):
    fitted = fit_samples((film,), Bucket.of(Picture(width=32, height=32, frames=25, fps=24)), TRACKS, SPLIT)
    assert [one.name for one in fitted.samples] == ["film#s001", "film#s004"]
    assert [one.name for one in fitted.skipped] == ["film#s002", "film#s003"]
    assert fitted.skipped[0].reason.startswith("have 20 frames at 24 fps, need 25")


def test_with_auto_scale_a_scene_is_stretched_without_its_neighbours(film, tmp_path):
    fitting = SPLIT.model_copy(update={"auto_scale": True})
    bucket = Bucket.of(Picture(width=32, height=32, frames=17, fps=12))
    seen = [
        colour(tmp_path / "film.mp4", s.clips["target"].video)
        for s in fit_samples((film,), bucket, TRACKS, fitting).samples
    ]
    assert seen == ["red", "blue", "white", "green"]


def test_clips_below_the_threshold_stay_whole(film):
    fitting = SPLIT.model_copy(update={"split_above_seconds": 4.0})
    assert [one.name for one in fit_samples((film,), BUCKET, TRACKS, fitting).samples] == ["film"]


def test_a_clip_without_a_cut_is_one_sample(tmp_path):
    path = clips.video(tmp_path / "a.mp4", 60)
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    assert [one.name for one in fit_samples((sample,), BUCKET, TRACKS, SPLIT).samples] == ["a"]


def test_a_pair_is_never_split(film):
    pair = film.model_copy(update={"files": dict.fromkeys(("reference", "target"), film.files["target"])})
    tracks = (*TRACKS, Track(role="reference", modality="video"))
    assert [one.name for one in fit_samples((pair,), BUCKET, tracks, SPLIT).samples] == ["film"]


def test_scenes_of_a_clip_whose_rate_varies_are_found_by_their_times(tmp_path):
    path = tmp_path / "a.mkv"
    inputs = [
        word for colour in ("red", "blue") for word in ("-f", "lavfi", "-i", f"color={colour}:s=96x64:r=24:d=1.5")
    ]
    uneven = "[0][1]concat=n=2,settb=1/1000,setpts='N*20+if(gt(N,18),(N-18)*60,0)'"  # 19 frames of 20 ms, then of 80 ms
    timing = ("-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    clips.ffmpeg(*inputs, "-filter_complex", uneven, *timing, "-metadata", "title=uneven", str(path))
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    [first, second] = fit_samples((sample,), BUCKET, TRACKS, SPLIT).samples
    assert [colour(path, scene.clips["target"].video) for scene in (first, second)] == ["red", "blue"]
    assert second.clips["target"].video.seek_seconds == pytest.approx((36 * 20 + 18 * 60) / 1000 - 0.04, abs=0.002)


def test_cuts_of_an_interlaced_clip_are_found(film, tmp_path):
    path = tmp_path / "interlaced.mkv"
    woven = ("-vf", "setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1")
    clips.ffmpeg("-i", str(tmp_path / "film.mp4"), *woven, str(path))
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    fitted = fit_samples((sample,), BUCKET, TRACKS, SPLIT)
    assert [colour(path, one.clips["target"].video) for one in fitted.samples] == ["red", "blue", "green"]


def test_a_scenes_sound_starts_with_its_first_frame(tmp_path):
    first, second = clips.video(tmp_path / "a.mp4", 36), tmp_path / "b.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=black:s=96x64:r=24", "-frames:v", "36", "-pix_fmt", "yuv420p", str(second))
    clips.ffmpeg(
        "-i",
        str(first),
        "-i",
        str(second),
        "-i",
        str(clips.tone(tmp_path / "t.wav", 3.0)),
        "-filter_complex",
        "[0:v][1:v]concat=n=2",
        "-map",
        "2:a",
        str(tmp_path / "c.mp4"),
    )
    sample = Sample(name="c", caption="", files={"target": clips.kept(tmp_path / "c.mp4")})
    tracks = (*TRACKS, Track(role="target", modality="audio"))
    last = fit_samples((sample,), BUCKET, tracks, SPLIT).samples[-1]
    assert last.clips["target"].audio.start_seconds == pytest.approx(1.5, abs=0.001)

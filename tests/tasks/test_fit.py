"""FitOptions: which frames and which sound of a clip are seen, what is skipped, what is refused."""

import time
from threading import Barrier

import numpy as np
import pytest

from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Track
from schemas.rejections import NothingLeft, Rejections, UnsupportedFile
from tasks.dataset.inspect import inspect
from tasks.dataset.order import Order
from tasks.dataset.rules import settle
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_video
from tasks.media.workers import each
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
SOUND_BUCKET = Bucket(seconds=1.0)
VIDEO = (Track(role="target", modality="video"),)
VIDEO_AUDIO = (*VIDEO, Track(role="target", modality="audio"))
AUDIO = (Track(role="target", modality="audio"),)
PAIR = (*VIDEO_AUDIO, Track(role="reference", modality="video"), Track(role="reference", modality="audio"))
AS_IS = FitOptions(normalize=False)
SCALED = FitOptions(normalize=False, auto_scale=True)


def sample(path, name=None, caption=""):
    return Sample(name=name or path.stem, caption=caption, files={"target": clips.kept(path)})


def pair(start, end):
    return Sample(name="pair", caption="", files={"reference": clips.kept(start), "target": clips.kept(end)})


# --- too short, with auto_scale off -------------------------------------------------------------------------------


def test_a_clip_with_fewer_frames_than_the_bucket_is_skipped_with_numbers_and_remedy(tmp_path):
    short, long = clips.video(tmp_path / "short.mp4", 12, 30), clips.video(tmp_path / "long.mp4", 17, 24)
    fitted = fit_samples((sample(short), sample(long)), BUCKET, VIDEO, AS_IS)
    assert [kept.name for kept in fitted.samples] == ["long"]
    assert [(one.name, one.reason) for one in fitted.skipped] == [
        ("short", "have 12 frames at 30 fps, need 17; lower number_of_frames to 9 or turn on auto_scale_input")
    ]


def test_captions_stay_with_their_clips_when_others_are_dropped(tmp_path):
    paths = [clips.video(tmp_path / f"{name}.mp4", frames) for name, frames in (("a", 17), ("b", 9), ("c", 20))]
    fitted = fit_samples(tuple(sample(p, caption=f"caption of {p.stem}") for p in paths), BUCKET, VIDEO, AS_IS)
    assert [(kept.name, kept.caption) for kept in fitted.samples] == [("a", "caption of a"), ("c", "caption of c")]


def test_when_every_clip_is_too_short_the_run_is_refused(tmp_path):
    with pytest.raises(NothingLeft, match="All training videos are too short to be trainable") as refused:
        fit_samples((sample(clips.video(tmp_path / "a.mp4", 9)),), BUCKET, VIDEO, AS_IS)
    [detail] = refused.value.details()
    assert (detail.loc, detail.type) == (("body", "training_data_url"), "video_duration_too_short")


def test_a_pair_is_skipped_when_its_reference_is_too_short(tmp_path):
    start, end = clips.video(tmp_path / "p_start.mp4", 9, sound=True), clips.video(tmp_path / "p_end.mp4", sound=True)
    good = Sample(name="good", caption="", files=dict.fromkeys(("reference", "target"), clips.kept(end)))
    fitted = fit_samples((pair(start, end), good), BUCKET, PAIR, AS_IS)
    assert fitted.skipped[0].reason.startswith("reference: have 9 frames at 24 fps, need 17")


def test_a_sound_shorter_than_the_bucket_is_skipped_with_the_length_that_would_fit(tmp_path):
    short, long = clips.tone(tmp_path / "short.wav", 0.6), clips.tone(tmp_path / "long.wav", 1.5)
    fitted = fit_samples((sample(short), sample(long)), SOUND_BUCKET, AUDIO, AS_IS)
    assert [(one.name, one.reason) for one in fitted.skipped] == [
        ("short", "have 0.6 s, need 1 s; lower audio_duration_seconds to 0.6")
    ]


def test_a_deficit_of_codec_padding_is_not_too_short(tmp_path):
    fitted = fit_samples((sample(clips.tone(tmp_path / "a.wav", 0.985)),), SOUND_BUCKET, AUDIO, AS_IS)
    assert fitted.samples[0].clips["target"].audio.seconds == 1.0


# --- which frames -------------------------------------------------------------------------------------------------


def test_with_auto_scale_off_the_first_frames_are_kept_as_they_are_and_a_wrong_rate_is_warned_of(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 30, 30)
    fitted = fit_samples((sample(path),), BUCKET, VIDEO, AS_IS)
    seen = fitted.samples[0].clips["target"].video
    assert clips.grey_numbers(path, seen) == list(range(17))
    assert seen.fps == pytest.approx(30, abs=0.01)
    assert len(fitted.warnings) == 1 and "30 fps, frame_rate is 24" in fitted.warnings[0].text


def test_with_auto_scale_on_a_clip_is_retimed_to_the_frame_on_screen_at_each_moment(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 40, 48)
    seen = fit_samples((sample(path),), BUCKET, VIDEO, SCALED).samples[0].clips["target"].video
    assert clips.grey_numbers(path, seen) == list(range(0, 34, 2))
    assert seen.fps == 24


def test_with_auto_scale_on_a_short_clip_fills_the_bucket(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 10, 24)
    fitted = fit_samples((sample(path),), BUCKET, VIDEO, SCALED)
    seen = clips.grey_numbers(path, fitted.samples[0].clips["target"].video)
    assert len(seen) == 17 and seen == sorted(seen) and set(seen) == set(range(10))


@pytest.mark.parametrize(("frames", "fps"), [(17, 24), (22, 30), (17, 23.976), (43, 60), (18, 25)])
def test_a_clip_of_just_the_buckets_length_gives_every_frame(tmp_path, frames, fps):
    fitted = fit_samples((sample(clips.video(tmp_path / "a.mp4", frames, fps)),), BUCKET, VIDEO, SCALED)
    assert fitted.samples[0].clips["target"].video.frames == 17


def test_the_picture_is_filled_and_cropped_in_the_middle(tmp_path):
    path = tmp_path / "a.mkv"
    clips.ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "color=red:s=96x64:r=24,drawbox=x=16:w=64:h=64:c=lime:t=fill",
        "-frames:v",
        "17",
        "-c:v",
        "ffv1",
        "-pix_fmt",
        "gbrp",
        str(path),
    )
    frames = decode_video(path, fit_samples((sample(path),), BUCKET, VIDEO, AS_IS).samples[0].clips["target"].video)
    assert frames.shape == (17, 64, 64, 3)
    assert np.abs(frames.astype(int) - [0, 255, 0]).max() <= 4


def test_a_reference_may_be_smaller_and_slower(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 17, 24)
    tracks = (*VIDEO, Track(role="reference", modality="video", downscale=2, temporal_scale=2))
    seen = fit_samples((pair(path, path),), BUCKET, tracks, AS_IS).samples[0].clips["reference"].video
    assert (seen.width, seen.height, seen.frames) == (32, 32, 9)
    assert clips.grey_numbers(path, seen) == [0, 1, 3, 5, 7, 9, 11, 13, 15]


def test_start_and_end_at_other_frame_rates_are_warned_of(tmp_path):
    start, end = clips.video(tmp_path / "s.mp4", 24, 25), clips.video(tmp_path / "e.mp4", 24, 24)
    tracks = (*VIDEO, Track(role="reference", modality="video"))
    assert "24 and 25 fps" in fit_samples((pair(start, end),), BUCKET, tracks, AS_IS).warnings[0].text


# --- masks --------------------------------------------------------------------------------------------------------


def masked(tmp_path, mask, frames=17, fps=24):
    target = clips.counting(tmp_path / "t.mkv", frames, fps)
    files = {"target": clips.kept(target), "mask": clips.kept(mask)}
    return (Sample(name="m", caption="", files=files),)


MASKED = (*VIDEO, Track(role="mask", modality="video"))


def test_an_image_is_the_mask_of_every_frame(tmp_path):
    mask = tmp_path / "mask.png"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "color=black:s=200x100,drawbox=w=100:h=100:c=white:t=fill", "-frames:v", "1", str(mask)
    )
    seen = fit_samples(masked(tmp_path, mask), BUCKET, MASKED, AS_IS).samples[0].clips["mask"].video
    frames = decode_video(mask, seen)
    assert frames.shape == (17, 64, 64, 3)
    assert (frames[:, :, :30] == 255).all() and (frames[:, :, 34:] == 0).all()


def test_a_short_video_mask_holds_its_last_frame_and_a_long_one_is_cut(tmp_path):
    for frames in (5, 30):
        mask = clips.counting(tmp_path / f"mask{frames}.mkv", frames, 24)
        seen = fit_samples(masked(tmp_path, mask), BUCKET, MASKED, AS_IS).samples[0].clips["mask"].video
        assert clips.grey_numbers(mask, seen) == [min(k, frames - 1) for k in range(17)]


def test_a_mask_keeps_to_its_clips_frames_when_they_are_retimed(tmp_path):
    mask = clips.counting(tmp_path / "mask.mkv", 40, 10)
    fitted = fit_samples(masked(tmp_path, mask, frames=40, fps=48), BUCKET, MASKED, SCALED).samples[0]
    assert clips.grey_numbers(mask, fitted.clips["mask"].video) == list(range(0, 34, 2))


def test_a_mask_that_is_all_black_or_white_is_warned_of(tmp_path):
    for colour in ("black", "white"):
        mask = tmp_path / f"{colour}.png"
        clips.ffmpeg("-f", "lavfi", "-i", f"color={colour}:s=96x64", "-frames:v", "1", str(mask))
        assert (
            f"the mask is all {colour}" in fit_samples(masked(tmp_path, mask), BUCKET, MASKED, AS_IS).warnings[0].text
        )


# --- what is refused ----------------------------------------------------------------------------------------------


def test_all_silent_clips_are_refused_together_when_sound_is_asked_for(tmp_path):
    a, b = clips.video(tmp_path / "a.mp4"), clips.video(tmp_path / "b.mp4", 20)
    good = clips.video(tmp_path / "good.mp4", sound=True)
    with pytest.raises(Rejections) as refused:
        fit_samples((sample(a), sample(good), sample(b)), BUCKET, VIDEO_AUDIO, AS_IS)
    assert [(fault.file, fault.role) for fault in refused.value.faults] == [("a.mp4", "target"), ("b.mp4", "target")]
    assert {detail.type for detail in refused.value.details()} == {"feature_not_supported"}


def test_sound_is_ignored_when_it_is_not_asked_for(tmp_path):
    clip = fit_samples((sample(clips.video(tmp_path / "a.mp4", sound=True)),), BUCKET, VIDEO, AS_IS).samples[0]
    assert clip.clips["target"].audio is None


def test_an_image_renamed_to_a_video_is_refused(tmp_path):
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64", "-frames:v", "1", str(tmp_path / "a.png"))
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    with pytest.raises(UnsupportedFile, match="it is an image"):
        fit_samples((sample(tmp_path / "a.mp4"),), BUCKET, VIDEO, AS_IS)


# --- one look per clip --------------------------------------------------------------------------------------------


def test_one_clip_more_costs_one_look_more(tmp_path, monkeypatch):
    first = sample(clips.video(tmp_path / "a.mp4", sound=True))
    before = fit_samples((first,), BUCKET, VIDEO_AUDIO, AS_IS)
    monkeypatch.setenv("PATH", "/nowhere")
    assert fit_samples((first,), BUCKET, VIDEO_AUDIO, AS_IS) == before


def test_samples_keep_their_order(tmp_path):
    paths = [clips.video(tmp_path / f"{number}.mp4", 17 + number) for number in range(5)]
    fitted = fit_samples(tuple(sample(path) for path in paths), BUCKET, VIDEO, AS_IS)
    assert [one.name for one in fitted.samples] == ["0", "1", "2", "3", "4"]


def test_clips_are_looked_at_several_at_a_time_and_come_in_order():
    together = Barrier(2)

    def work(number):
        together.wait(timeout=30)  # passed by two at a time only
        time.sleep(0.02 * (4 - number))
        return number

    assert each(work, range(4)) == [0, 1, 2, 3]


def test_settling_answers_from_probes_alone(tmp_path):
    samples = tuple(sample(clips.video(tmp_path / f"{number}.mp4", 17 + number)) for number in range(3))
    order = Order(BUCKET, VIDEO, AS_IS)
    settled = settle(samples, inspect(samples, order), order)
    fitted = fit_samples(samples, BUCKET, VIDEO, AS_IS)
    assert settled == fitted

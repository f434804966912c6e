"""Retiming: burnt-in frame numbers and a click track, through every rate, container and stretch."""

import subprocess
import tracemalloc

import numpy as np
import pytest
import soundfile

from schemas.media import Bucket, FitOptions, FittedAudio, Picture, Sample
from schemas.plan import Track
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_audio, decode_video
from tests.support import clips
from tests.support.sweeps import swept

TRACKS = (Track(role="target", modality="video"), Track(role="target", modality="audio"))
BUCKET = Bucket.of(Picture(width=64, height=64, frames=89, fps=24))
AS_IS = FitOptions(normalize=False)
SCALED = FitOptions(normalize=False, auto_scale=True)
NTSC = 24000 / 1001
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "24", "-pix_fmt", "yuv420p")
TOLERANCE = 0.002  # s; containers round times to 1 ms, and a frame that is due now must not come one frame late


def numbered(path, frames, fps, extra=H264):
    """Every frame bears its number: eight bars, the last one for 1."""
    bits = (np.arange(frames)[:, None] >> np.arange(7, -1, -1)) & 1
    pixels = np.repeat(np.repeat(bits[:, None], 64, axis=1), 8, axis=2)[..., None] * np.full(3, 255)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64"]
    command += ["-framerate", str(fps), "-i", "-", *extra, str(path)]
    subprocess.run(command, input=pixels.astype(np.uint8).tobytes(), check=True)
    return path


def numbers(path, video):
    bars = decode_video(path, video)[:, 32, 4::8, 1] > 128
    return (bars @ (1 << np.arange(7, -1, -1))).tolist()


def fit_one(path, fitting, tracks=TRACKS[:1], bucket=BUCKET):
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    return fit_samples((sample,), bucket, tracks, fitting).samples[0].clips["target"]


def on_screen(times, moments):
    """Which frame is seen at each moment."""
    return [int(np.searchsorted(times, moment + TOLERANCE, "right")) - 1 for moment in moments]


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", swept([25, NTSC, 60, 24, 30], short=3))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_retimed_clip_shows_the_frame_on_screen_at_each_moment(tmp_path, fps, suffix):
    path = numbered(tmp_path / f"a{suffix}", 240, fps)
    seen = numbers(path, fit_one(path, SCALED).video)
    clock = 1000 if suffix == ".mkv" else 90_000  # ticks per second
    times = np.floor(np.arange(240) / fps * clock + 0.5 + 1e-9) / clock
    assert seen == on_screen(times, np.arange(89) / 24)


@pytest.mark.parametrize("fps", swept([24, NTSC, 25, 30, 60], short=2))
def test_a_clip_that_keeps_its_rate_shows_its_first_frames(tmp_path, fps):
    path = numbered(tmp_path / "a.mp4", 100, fps)
    assert numbers(path, fit_one(path, AS_IS).video) == list(range(89))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_rate_that_varies_is_retimed_by_its_times(tmp_path, suffix):
    steps = "100*floor(N/3)+20*eq(mod(N,3),1)+50*eq(mod(N,3),2)"  # frames after 20, 30 and 50 ms
    extra = ("-vf", f"settb=1/1000,setpts='{steps}'", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", *H264)
    path = numbered(tmp_path / f"a{suffix}", 240, 30, extra)
    times = [k // 3 * 0.1 + (0, 0.02, 0.05)[k % 3] for k in range(240)]
    assert numbers(path, fit_one(path, SCALED).video) == on_screen(times, np.arange(89) / 24)
    assert numbers(path, fit_one(path, AS_IS).video) == list(range(89))


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("b-frames.avi", H264),
        ("b-frames-mpeg4.avi", ("-c:v", "mpeg4", "-bf", "2", "-q:v", "2")),
        ("transport.mkv", (*H264, "-f", "mpegts")),
        ("no-timestamps.mp4", (*H264, "-f", "h264")),
        ("fragmented.mp4", (*H264, "-movflags", "frag_keyframe+empty_moov")),
        ("late.mkv", ("-vf", "setpts=PTS+0.5/TB", "-fps_mode", "passthrough", *H264)),
        ("ten-bit.mov", ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")),
        ("alpha.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30")),
    ],
)
def test_every_kind_of_file_is_retimed_alike(tmp_path, name, extra):
    path = numbered(tmp_path / name, 120, 30, extra)
    assert numbers(path, fit_one(path, SCALED).video) == on_screen(np.arange(120) / 30, np.arange(89) / 24)
    assert numbers(path, fit_one(path, AS_IS).video) == list(range(89))


def test_what_an_edit_list_hides_is_not_seen(tmp_path):
    cut = tmp_path / "cut.mp4"
    clips.ffmpeg("-ss", "0.5", "-i", str(numbered(tmp_path / "a.mp4", 120, 24)), "-c", "copy", str(cut))
    assert numbers(cut, fit_one(cut, AS_IS).video) == list(range(12, 101))
    assert numbers(cut, fit_one(cut, SCALED).video) == list(range(12, 101))


@pytest.mark.parametrize(("frames", "fps"), [(30, 24), (60, 30), (45, NTSC)])
def test_a_short_clip_is_slowed_down_evenly_until_it_fills_the_bucket(tmp_path, frames, fps):
    path = numbered(tmp_path / "a.mp4", frames, fps)
    slowdown = 89 / 24 / (frames / fps)
    seen = numbers(path, fit_one(path, SCALED).video)
    assert seen == on_screen(np.arange(frames) / fps * slowdown, np.arange(89) / 24)


# --- sound --------------------------------------------------------------------------------------------------------

CLICKS = np.array([0.5, 1.0, 2.0, 3.0])
RATE = 16_000


def click_track(path, seconds=4.0, rate=48_000, channels=1, at=CLICKS):
    """Bursts of 2 ms."""
    wave, burst = np.zeros(round(seconds * rate)), round(0.002 * rate)
    for start in np.round(np.asarray(at) * rate).astype(int):
        wave[start : start + burst] = 0.8 * np.sin(2 * np.pi * 3000 * np.arange(burst) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
    return path


def click_times(wave):
    """Where a click begins: the first loud sample after 0.1 s that were none."""
    loud = np.flatnonzero(np.abs(wave[0]) > 0.4 * np.abs(wave[0]).max()) / RATE
    return loud[np.diff(loud, prepend=-1) > 0.1]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".m4a"])
@pytest.mark.parametrize("rate", swept([44_100, 8_000, 48_000, 96_000], short=2))
def test_clicks_stay_where_they_are_in_every_format_and_rate(tmp_path, suffix, rate):
    path = click_track(tmp_path / "a.wav", rate=rate)
    if suffix != ".wav":
        possible = ("-ar", "48000") if suffix == ".mp3" and rate == 96_000 else ()
        clips.ffmpeg("-i", str(path), *possible, str(tmp_path / f"b{suffix}"))
        path = tmp_path / f"b{suffix}"
    wave = decode_audio(path, FittedAudio(source="", start_seconds=0.0, seconds=3.5), RATE)
    assert wave.shape == (2, 56_000) and click_times(wave) == pytest.approx(CLICKS, abs=0.005)


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8])
def test_mono_to_seven_one_are_heard_on_both_sides(tmp_path, channels):
    path = click_track(tmp_path / "a.wav", channels=channels)
    wave = decode_audio(path, FittedAudio(source="", start_seconds=0.0, seconds=3.5), RATE)
    assert wave.shape == (2, 56_000) and click_times(wave) == pytest.approx(CLICKS, abs=0.005)
    assert click_times(wave[::-1]) == pytest.approx(CLICKS, abs=0.005)


def flashing(path, fps, extra, late=()):
    """White frames, each with a click."""
    frames = np.zeros((round(4 * fps), 64, 64, 3), np.uint8)
    shown = np.round(CLICKS * fps).astype(int)
    frames[shown] = 255
    sound = click_track(path.with_suffix(".source.wav"), at=shown / fps)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64"]
    command += ["-framerate", str(fps), "-i", "-", *late, "-i", str(sound), *extra, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


def flash_times(path, video):
    white = np.flatnonzero(decode_video(path, video).mean(axis=(1, 2, 3)) > 128)
    return white[np.diff(white, prepend=-2) > 1] / video.fps


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("a.mp4", H264),
        ("a.mkv", (*H264, "-c:a", "flac")),
        pytest.param("a.mov", (*H264, "-c:a", "pcm_s16le"), marks=pytest.mark.long),
        pytest.param("a.avi", (*H264, "-c:a", "pcm_s16le"), marks=pytest.mark.long),
        pytest.param("b.avi", ("-c:v", "mpeg4", "-bf", "2", "-c:a", "pcm_s16le"), marks=pytest.mark.long),
        ("transport.mkv", (*H264, "-f", "mpegts")),
    ],
)
@pytest.mark.parametrize("fitting", [AS_IS, SCALED])
def test_clicks_and_flashes_stay_together(tmp_path, name, extra, fitting):
    path = flashing(tmp_path / name, 24, extra)
    clip = fit_one(path, fitting, TRACKS)
    wave = decode_audio(path, clip.audio, RATE)
    assert flash_times(path, clip.video) == pytest.approx(CLICKS)
    assert click_times(wave) == pytest.approx(CLICKS, abs=0.005)


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_clicks_stay_where_they_are_when_frames_are_retimed(tmp_path, fps):
    path = flashing(tmp_path / "a.mp4", fps, H264)
    clip = fit_one(path, SCALED, TRACKS)
    assert click_times(decode_audio(path, clip.audio, RATE)) == pytest.approx(np.round(CLICKS * fps) / fps, abs=0.005)


@pytest.mark.parametrize("late", [0.3, -0.3])
def test_clicks_of_a_track_that_starts_late_or_early_keep_their_distance(tmp_path, late):
    path = flashing(tmp_path / "a.mkv", 24, (*H264, "-c:a", "flac"))
    moved = tmp_path / "moved.mkv"
    offset = ("-itsoffset", str(late)) if late > 0 else ()
    other = ("-itsoffset", str(-late)) if late < 0 else ()
    tracks = ("-map", "0:v", "-map", "1:a", "-c", "copy")
    clips.ffmpeg(*other, "-i", str(path), *offset, "-i", str(path), *tracks, str(moved))
    clip = fit_one(moved, AS_IS, TRACKS)
    assert click_times(decode_audio(moved, clip.audio, RATE)) == pytest.approx((CLICKS + late)[:4], abs=0.005)


@pytest.mark.parametrize("preserve_pitch", [True, False])
def test_clicks_of_a_short_clip_are_as_far_apart_as_its_frames(tmp_path, preserve_pitch):
    path = flashing(tmp_path / "a.mp4", 24, H264)
    bucket = Bucket.of(Picture(width=64, height=64, frames=121, fps=24))
    clip = fit_one(path, SCALED.model_copy(update={"preserve_pitch": preserve_pitch}), TRACKS, bucket)
    slower = 121 / 96
    near = 0.01 if preserve_pitch else 0.005  # rubberband's windows are longer than a click
    assert clip.audio.stretch == pytest.approx(slower)
    assert click_times(decode_audio(path, clip.audio, RATE)) == pytest.approx(CLICKS * slower, abs=near)


def test_a_window_deep_in_a_long_film_is_read_from_there_and_to_the_sample(tmp_path):
    sound = click_track(tmp_path / "a.wav", seconds=60.0, at=[40.5, 41.0, 42.0])
    film = tmp_path / "film.mp4"
    picture = ("-f", "lavfi", "-i", "color=black:s=64x64:r=24:d=60")
    clips.ffmpeg(*picture, "-i", str(sound), *H264, "-shortest", str(film))
    tracemalloc.start()
    wave = decode_audio(film, FittedAudio(source="", start_seconds=40.0, seconds=3.0), RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert click_times(wave) == pytest.approx([0.5, 1.0, 2.0], abs=0.005)
    assert peak < 5 * 2**20  # 40 s of sound before it would be 7 MiB
    assert click_times(decode_audio(sound, FittedAudio(source="", start_seconds=40.0, seconds=3.0), RATE)) == (
        pytest.approx([0.5, 1.0, 2.0], abs=0.005)
    )

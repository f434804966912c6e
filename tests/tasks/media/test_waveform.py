"""Sound: windows, silence where a track does not reach, stretching, the settled peak."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from schemas.errors import MissingTool
from schemas.media import Bucket, FitOptions, FittedAudio, Picture, Sample
from schemas.plan import Track
from schemas.rejections import UnreadableClip
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_audio, decode_video, still, write_video
from tasks.media.probe import probe
from tasks.media.waveform import LOUDEST_PEAK, peak_gain, resample
from tests.support import clips

RATE = 16_000
GOLDEN = Path(__file__).parents[3] / "tests" / "golden"
TRACKS = (Track(role="target", modality="video"), Track(role="target", modality="audio"))
BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))


def window(start, seconds, **more):
    return FittedAudio(source="", start_seconds=start, seconds=seconds, **more)


def pitch(wave):
    """The loudest frequency of the left side."""
    return np.abs(np.fft.rfft(wave[0])).argmax() * RATE / wave.shape[1]


def fit_one(path, fitting, tracks=TRACKS, bucket=BUCKET):
    return fit_samples((Sample(name="a", caption="", files={"target": clips.kept(path)}),), bucket, tracks, fitting)


def safetensors_of(name):
    with safe_open(GOLDEN / f"{name}.safetensors", "np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def seconds_of_sound(wave):
    """From where to where it is not silent."""
    loud = np.flatnonzero(np.abs(wave[0]) > 0.02)
    return loud[0] / RATE, loud[-1] / RATE


@pytest.mark.parametrize("rate", [48000, 44100, 32000, 22050, 11025, 8000, 96000])
def test_sound_is_resampled_to_the_official_numbers(rate):
    golden, _ = safetensors_of("resample")
    resampled = resample(golden[f"in.{rate}"], rate, RATE)
    assert np.abs(resampled - golden[f"out.{rate}"]).max() < 1e-6


def test_sound_at_a_rate_that_shares_no_divisor_with_ours_is_resampled_too():
    time = np.arange(23_999) / 47_999
    wave = resample(np.float32([np.sin(2 * np.pi * 440 * time)] * 2), 47_999, RATE)
    assert wave.shape == (2, 8000)
    assert np.abs(wave[0, 50:-50] - np.sin(2 * np.pi * 440 * np.arange(8000) / RATE)[50:-50]).max() < 2e-3


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".ogg", ".aac", ".m4a"])
def test_every_listed_format_gives_stereo_of_the_asked_length(tmp_path, suffix):
    path = clips.tone(tmp_path / f"a{suffix}", 1.2, rate=44_100)
    wave = decode_audio(path, window(0.0, 1.0), RATE)
    assert wave.shape == (2, RATE) and wave.dtype == np.float32
    assert pitch(wave) == pytest.approx(440, abs=1) and np.array_equal(wave[0], wave[1])
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.08)
    assert probe(path).audio.seconds == pytest.approx(1.2, abs=0.06)


def test_a_longer_sound_is_trimmed_from_its_start(tmp_path):
    path = tmp_path / "a.wav"
    clips.soundfile.write(path, np.linspace(0, 0.9, 2 * RATE), RATE, subtype="FLOAT")
    wave = decode_audio(path, window(0.0, 1.0), RATE)
    assert wave[0] == pytest.approx(np.linspace(0, 0.9, 2 * RATE)[:RATE], abs=1e-6)


def test_silence_stands_before_the_beginning_and_after_the_end(tmp_path):
    wave = decode_audio(clips.tone(tmp_path / "a.wav", 0.5), window(-0.25, 1.0), RATE)
    assert seconds_of_sound(wave) == (pytest.approx(0.25, abs=0.01), pytest.approx(0.75, abs=0.01))


def test_more_channels_than_two_are_mixed_down(tmp_path):
    wave = decode_audio(clips.tone(tmp_path / "a.wav", 1.0, channels=6), window(0.0, 1.0), RATE)
    assert wave.shape == (2, RATE) and pitch(wave) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("preserve_pitch", [True, False])
def test_a_stretched_sound_has_exactly_its_length(tmp_path, preserve_pitch):
    path = clips.tone(tmp_path / "a.wav", 1.0, peak=0.9)
    wave = decode_audio(path, window(0.0, 0.7, stretch=1.7, preserve_pitch=preserve_pitch), RATE)
    assert wave.shape == (2, 19_040)
    assert pitch(wave) == pytest.approx(440 if preserve_pitch else 440 / 1.7, abs=2)
    assert np.abs(wave).max() == pytest.approx(0.9, abs=0.1)


def test_without_rubberband_a_stretch_at_pitch_says_what_to_install(tmp_path, monkeypatch):
    path = clips.tone(tmp_path / "a.wav", 1.0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        MissingTool, match="rubberband is not installed; type: apt-get install rubberband-cli, or set audio_preserve"
    ):
        decode_audio(path, window(0.0, 1.0, stretch=1.5), RATE)


def test_what_is_no_sound_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"not a sound")
    with pytest.raises(UnreadableClip):
        decode_audio(tmp_path / "a.wav", window(0.0, 1.0), RATE, name="a.wav")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    clips.soundfile.write(tmp_path / "a.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(UnreadableClip, match="no numbers"):
        decode_audio(tmp_path / "a.wav", window(0.0, 1.0), RATE, name="a.wav")


# --- with a picture -----------------------------------------------------------------------------------------------


def muxed(tmp_path, *, video_at=0.0, audio_at=0.0, frames=24, fps=24, seconds=1.0):
    picture, tone = clips.video(tmp_path / "v.mp4", frames, fps), clips.tone(tmp_path / "t.wav", seconds)
    clips.ffmpeg(
        "-itsoffset",
        str(video_at),
        "-i",
        str(picture),
        "-itsoffset",
        str(audio_at),
        "-i",
        str(tone),
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "copy",
        "-c:a",
        "pcm_s16le",
        str(tmp_path / "muxed.mkv"),
    )
    return tmp_path / "muxed.mkv"


def heard(path, fitted):
    return decode_audio(path, fitted.samples[0].clips["target"].audio, RATE)


def test_a_track_that_starts_late_is_silent_until_then(tmp_path):
    path = muxed(tmp_path, audio_at=0.3)
    wave = heard(path, fit_one(path, FitOptions(normalize=False)))
    assert wave.shape[1] == round(17 / 24 * RATE)
    assert seconds_of_sound(wave)[0] == pytest.approx(0.3, abs=0.02)


def test_a_track_that_starts_early_is_cut_to_the_first_frame(tmp_path):
    path = muxed(tmp_path, video_at=0.4)
    fitted = fit_one(path, FitOptions(normalize=False))
    assert fitted.samples[0].clips["target"].audio.start_seconds == pytest.approx(0.4, abs=0.002)
    assert seconds_of_sound(heard(path, fitted)) == (pytest.approx(0.0, abs=0.01), pytest.approx(0.6, abs=0.02))


def test_the_window_is_as_long_as_the_frames_are_shown_at_the_clips_own_rate(tmp_path):
    path = muxed(tmp_path, frames=60, fps=30, seconds=2.0)
    assert heard(path, fit_one(path, FitOptions())).shape[1] == round(17 / 30 * RATE)


def test_much_silence_in_place_of_sound_is_warned_of(tmp_path):
    path = muxed(tmp_path, seconds=0.4)
    assert "44% of the target's sound is silence" in fit_one(path, FitOptions()).warnings[0].text


def test_a_short_clip_is_slowed_down_with_its_sound(tmp_path):
    path = muxed(tmp_path, frames=12, seconds=0.5)
    audio = fit_one(path, FitOptions(auto_scale=True)).samples[0].clips["target"].audio
    assert (audio.seconds, audio.stretch) == (pytest.approx(0.5), pytest.approx(17 / 12))
    assert decode_audio(path, audio, RATE).shape[1] == round(17 / 24 * RATE)


def test_slowing_down_more_than_twice_is_warned_of(tmp_path):
    path = muxed(tmp_path, frames=8, seconds=0.34)
    assert "slowed down 2.1 times" in fit_one(path, FitOptions(auto_scale=True, preserve_pitch=False)).warnings[0].text


# --- the settled peak ---------------------------------------------------------------------------------------------


def test_a_normalised_clip_peaks_at_minus_one_decibel(tmp_path):
    path = clips.tone(tmp_path / "a.wav", 1.0, peak=0.2)
    fitted = fit_one(path, FitOptions(), TRACKS[1:], Bucket(seconds=1.0))
    assert np.abs(heard(path, fitted)).max() == pytest.approx(0.891, abs=0.001)


def test_a_clip_that_is_not_normalised_keeps_its_peak(tmp_path):
    path = clips.tone(tmp_path / "a.wav", 1.0, peak=0.2)
    fitted = fit_one(path, FitOptions(normalize=False), TRACKS[1:], Bucket(seconds=1.0))
    assert np.abs(heard(path, fitted)).max() == pytest.approx(0.2, abs=0.001)


def test_digital_silence_passes_with_a_warning_and_is_not_made_louder(tmp_path):
    path = clips.tone(tmp_path / "a.wav", 1.0, peak=0.0)
    fitted = fit_one(path, FitOptions(), TRACKS[1:], Bucket(seconds=1.0))
    assert fitted.samples[0].clips["target"].audio.gain == 1.0
    assert [str(one) for one in fitted.warnings] == ["a: the target's sound is silent"]


def test_no_clip_is_made_more_than_40_decibels_louder():
    assert peak_gain(np.full((2, 8), 0.001, np.float32)) == 100.0
    assert peak_gain(np.full((2, 8), LOUDEST_PEAK, np.float32)) == pytest.approx(1.0)


# --- the reel -----------------------------------------------------------------------------------------------------


def test_a_reel_shows_the_frames_and_sounds_as_they_were_and_is_the_same_file_each_time(tmp_path):
    frames = [np.full((64, 96, 3), (10 * k, 128, 60), np.uint8) for k in range(20)]
    sound = np.stack([0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)] * 2).astype(np.float32)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 20, (96, 64), sound, RATE)
    found = probe(tmp_path / "a.mp4")
    seen = decode_video(tmp_path / "a.mp4", fit_one(tmp_path / "a.mp4", FitOptions()).samples[0].clips["target"].video)
    assert (found.video.frames, found.video.fps, found.audio.rate) == (20, 20.0, RATE)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert np.abs(seen[5].mean(axis=(0, 1)) - [50, 128, 60]).max() < 4


def test_a_silent_reel_has_no_audio_track_and_shows_its_last_frame(tmp_path):
    write_video(tmp_path / "a.mp4", [np.full((64, 96, 3), 9 * k, np.uint8) for k in range(3)], 24, (96, 64), None, RATE)
    assert probe(tmp_path / "a.mp4").audio is None
    assert still(tmp_path / "a.mp4").startswith(b"\x89PNG")

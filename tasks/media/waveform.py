"""Waveforms: cut to their window, resampled, stretched, their peak settled. Always stereo, float32 [2, N]."""

import math
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyrubberband
import soundfile
import soxr
from numpy.lib.stride_tricks import sliding_window_view

from schemas.errors import MachineNotReady, ProgramKilled
from schemas.media import FittedAudio
from tasks.media.programs import program

LOUDEST_PEAK = 10 ** (-1 / 20)  # -1 dBFS: what normalised clips peak at
SILENCE = 1e-4  # -80 dBFS: a peak below is silence and is not made louder
MOST_GAIN = 100.0  # +40 dB
ZERO_CROSSINGS, ROLLOFF = 6, 0.99  # of the resampling kernel: its half width, and what it keeps of the spectrum
STRETCHING_PEAK = 0.5  # rubberband goes through 16-bit files: louder clips, much quieter drowns in rounding

Waveform = np.ndarray[Any, np.dtype[np.float32]]


def read_plain(path: Path, end_seconds: float) -> tuple[Waveform, int] | None:
    """The sound of a mono or stereo wav, flac, ogg or mp3 up to `end_seconds`; None where ffmpeg has to read it."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.channels > 2:
                return None  # ffmpeg knows which channel is which
            wanted = max(1, round(max(end_seconds, 0.0) * file.samplerate) + 1)
            wave = file.read(min(wanted, file.frames), dtype="float32", always_2d=True)
            if len(wave) < min(wanted, file.frames):
                return None  # cut off, whatever its header says: ffmpeg tells where
            return as_stereo(wave.T), int(file.samplerate)
    except soundfile.LibsndfileError:
        return None


def as_stereo(wave: Waveform) -> Waveform:
    """The sound in stereo: mono goes to both sides."""
    return np.repeat(wave, 2, axis=0) if len(wave) == 1 else wave


def fitted(wave: Waveform, own_rate: int, audio: FittedAudio, rate: int) -> Waveform:
    """[2, N] at `own_rate`, from the file's zero -> [2, round(seconds * stretch * rate)], the gain applied last."""
    length = round(audio.seconds * rate)
    cut = of_length(resample(window(wave, own_rate, audio.start_seconds, audio.seconds), own_rate, rate), length)
    stretched = round(audio.seconds * audio.stretch * rate)
    if stretched != length:
        stretch = keep_pitch if audio.preserve_pitch else change_speed
        cut = of_length(stretch(cut, rate, audio.stretch), stretched)
    return np.ascontiguousarray(cut * np.float32(audio.gain))


def window(wave: Waveform, rate: int, start_seconds: float, seconds: float) -> Waveform:
    """The samples of a window; silence where the sound has not begun or is over."""
    start, length = round(start_seconds * rate), round(seconds * rate)
    silence = np.zeros((2, min(max(-start, 0), length)), np.float32)
    begun = wave[:, max(start, 0) : max(start + length, 0)]
    return of_length(np.concatenate([silence, begun], axis=1), length)


def of_length(wave: Waveform, length: int) -> Waveform:
    """The sound cut, or filled up with silence, to a length."""
    return np.pad(wave[:, :length], ((0, 0), (0, max(0, length - wave.shape[1]))))


def resample(wave: Waveform, rate: int, wanted: int) -> Waveform:
    """[2, N] at one rate -> [2, ceil(N * wanted / rate)], by a sinc under a Hann window, as the official code does.

    Source: torchaudio's `functional.resample` with its defaults; tests/golden/resample.safetensors.
    """
    if rate == wanted or not wave.shape[1]:
        return wave
    divisor = math.gcd(rate, wanted)
    own, new = rate // divisor, wanted // divisor
    first, kernels = _kernels(own, new)
    taps, length = kernels.shape[1], math.ceil(wave.shape[1] * new / own)
    rounds = math.ceil(length / new)  # of all phases, each of which begins `own` samples after the last
    padded = np.pad(wave, ((0, 0), (-int(first[0]), 2 * own + taps)))
    resampled = np.empty((2, rounds, new), np.float32)
    for phase in range(new):
        windows = sliding_window_view(padded[:, int(first[phase] - first[0]) :], taps, axis=1)[:, ::own][:, :rounds]
        resampled[:, :, phase] = windows @ kernels[phase]
    return resampled.reshape(2, -1)[:, :length]


@lru_cache(maxsize=4)
def _kernels(own: int, new: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Resampling kernels: each phase's first input sample, [new], and its weights, float32 [new, taps].

    In float32 throughout, as the official code computes them: in double precision they would differ by 3e-5.
    """
    cut = ROLLOFF * min(own, new)  # half of the narrower spectrum: what neither rate can hold is left out
    reach = math.ceil(ZERO_CROSSINGS * own / cut)
    first = np.arange(new) * own // new - reach
    taps = (first[:, None] + np.arange(2 * reach + 2)).astype(np.float32) / np.float32(own)
    time = (taps - (np.arange(new, dtype=np.float32) / np.float32(new))[:, None]) * np.float32(cut)
    time = np.clip(time, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(time * np.float32(np.pi / ZERO_CROSSINGS / 2)) ** 2
    return first, np.sinc(time) * window * np.float32(cut / own)


def change_speed(wave: Waveform, rate: int, stretch: float) -> Waveform:
    """The sound slower and lower, like a tape, by any ratio, which is rounded to a millionth."""
    slower = soxr.resample(wave.T, 1_000_000, round(1_000_000 * stretch), quality="HQ")
    return np.ascontiguousarray(slower.T, dtype=np.float32)


def keep_pitch(wave: Waveform, rate: int, stretch: float) -> Waveform:
    """The sound slower at the same pitch.

    Raises:
        MissingTool: rubberband is not installed.
        ProgramKilled: it was ended by somebody else.
        MachineNotReady: it does not work.
    """
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < SILENCE:
        return np.zeros((2, round(wave.shape[1] * stretch)), np.float32)
    program("rubberband", ", or set audio_preserve_pitch to false: stretched sound is then lower, too")
    scale = STRETCHING_PEAK / peak
    try:
        slower = pyrubberband.time_stretch(wave.T * scale, rate, 1 / stretch, rbargs={"--fine": ""})
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:
            raise ProgramKilled(f"rubberband was ended by signal {-error.returncode}; run again") from error
        raise MachineNotReady(f"rubberband does not work: it ended with code {error.returncode}") from error
    return np.asarray(slower.T / scale, np.float32)


def peak_gain(wave: Waveform) -> float:
    """The gain that brings the peak to -1 dBFS; 1.0 for silence, +40 dB at most."""
    peak = float(np.abs(wave).max(initial=0.0))
    return 1.0 if peak < SILENCE else min(LOUDEST_PEAK / peak, MOST_GAIN)

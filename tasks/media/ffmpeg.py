"""Pixels and sound in and out of files, one ffmpeg process each. The only module that uses ffmpeg-python."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import ffmpeg
import numpy as np
import soundfile

from schemas.errors import ProgramKilled
from schemas.media import FittedAudio, FittedVideo
from schemas.rejections import UnreadableClip
from tasks.media.probe import probe
from tasks.media.programs import ONLY_THE_FILE, TimeLimit, complaint, program
from tasks.media.waveform import Waveform, as_stereo, fitted, read_plain

THREADS = 2  # several clips are read at once (docs/media-rules.md, section 2); x264's bytes depend on the number
CRF = 14
LEAST_SECONDS, BYTES_PER_SECOND = 120.0, 5e6  # what reading a clip may take; a disk gives ten times as much
SECONDS_PER_FRAME = 0.25  # what looking at, or writing, all of a film may take
SEEK_SECONDS = 10.0  # of a sound that are rather read than skipped; decoding starts a second before the window
LOST_SECONDS = 0.1  # of a sound that may be missing at its end: codecs pad, containers round
QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")

Frames = np.ndarray[Any, np.dtype[np.uint8]]


def decode_video(path: Path, video: FittedVideo, *, name: str | None = None) -> Frames:
    """Decode a fitted clip.

    Returns:
        uint8 [frames, height, width, 3], RGB.

    Raises:
        UnreadableClip: fewer frames decode than were promised. Headers and ffmpeg's exit code lie, the bytes do not.
        ProgramKilled: ffmpeg was ended by somebody else; what it gave until then counts for nothing.
    """
    return decode_held(path, video, name=name)[0]


def decode_again(path: Path, video: FittedVideo, seen: int) -> Frames:
    """Decode a clip of which `seen` frames have been decoded before.

    Raises:
        ProgramKilled: it gives fewer now, which is no fault of the clip's.
    """
    try:
        frames, whole = decode_held(path, video)
    except UnreadableClip as error:
        raise ProgramKilled(f"{error.file} gave {seen} frames before, and now {error.reason}; run again") from error
    if whole < seen:
        raise ProgramKilled(f"{path.name} gave {seen} frames before, and now {whole}; run again")
    return frames


def decode_held(path: Path, video: FittedVideo, *, name: str | None = None) -> tuple[Frames, int]:
    """Frames as `decode_video` returns them, and how many frames the file gave: a mask's last one is held."""
    frames = np.empty((video.frames, video.height, video.width, 3), np.uint8)
    source = {"ss": f"{video.seek_seconds:.6f}"} if video.seek_seconds else {}
    output = {"vf": video.filters, "frames:v": video.frames, "fps_mode": "passthrough"}
    command = _reading(path, "V:0", source, {**output, "format": "rawvideo", "pix_fmt": "rgb24"})
    with _running(command, path, name) as reading:
        whole = _fill(reading.pipe, frames.data.cast("B")) // frames[0].nbytes
        if whole < video.frames:
            reason = f"{whole} of {video.frames} frames: {reading.why_it_ended()}"
            if not (video.hold_last and whole):
                raise UnreadableClip(name or path.name, kind="video", reason=reason)
    frames[whole:] = frames[whole - 1]
    return frames, whole


def decode_audio(path: Path, audio: FittedAudio, rate: int, *, name: str | None = None) -> Waveform:
    """Decode a fitted sound.

    Returns:
        float32 [2, round(seconds * stretch * rate)], peak as settled by the gain.

    Raises:
        UnreadableClip: nothing of it decodes, or what decodes is no sound.
        MissingTool: rubberband is not installed, and the sound is stretched at its pitch.
        ProgramKilled: ffmpeg or rubberband was ended by somebody else.
    """
    plain = read_plain(path, audio.start_seconds + audio.seconds) if audio.start_seconds < SEEK_SECONDS else None
    if plain is not None:
        wave, own_rate = plain
    else:
        skipped = max(audio.start_seconds - 1.0, 0.0) if audio.start_seconds >= SEEK_SECONDS else 0.0
        audio = audio.model_copy(update={"start_seconds": audio.start_seconds - skipped})
        wave, own_rate = _read_any(path, skipped, audio.start_seconds + audio.seconds, name or path.name)
    if not np.isfinite(wave).all():
        raise UnreadableClip(name or path.name, kind="audio", reason="it has values that are no numbers")
    return fitted(wave, own_rate, audio, rate)


def write_video(
    path: Path,
    frames: Iterable[Frames],
    fps: float,
    size: tuple[int, int],
    audio: Waveform | Path | None,
    rate: int = 0,
) -> None:
    """Write an mp4 that every player shows: H.264, AAC 192k, the same bytes for the same content.

    Args:
        path: the file to write.
        frames: uint8 [height, width, 3] each, RGB.
        fps: frames per second.
        size: width and height, both even.
        audio: [2, N], or a wav file that need not fit in memory; None for a silent reel.
        rate: samples per second of an audio in memory.
    """
    with tempfile.TemporaryDirectory(prefix="ltx-flows-") as folder, tempfile.TemporaryFile() as errors:
        command = _writing(path, fps, size, _sound_file(Path(folder), audio, rate))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors)
        assert process.stdin is not None
        limit, written = TimeLimit(process, LEAST_SECONDS), 0
        try:
            for frame in frames:
                limit.cancel()  # what makes a frame may take its time
                pixels = np.ascontiguousarray(frame).data
                limit.renew()
                process.stdin.write(pixels)
                written += 1
        except BrokenPipeError:
            pass  # ffmpeg gave up; its exit code and its words follow
        finally:
            limit.seconds = LEAST_SECONDS + written * SECONDS_PER_FRAME
            limit.renew()
            process.communicate()
            limit.cancel()
        if process.returncode:
            raise OSError(f"ffmpeg could not write {path.name}: {complaint(errors)}")


def still(path: Path) -> bytes:
    """The last frame of a video as PNG."""
    command = _reading(
        path,
        "V:0",
        {"sseof": "-1"},
        {"update": 1, "format": "image2pipe", "vcodec": "png", "vf": "reverse", "frames:v": 1},
    )
    done = subprocess.run(command, capture_output=True, check=False, timeout=LEAST_SECONDS)
    return done.stdout


def sample_frames(path: Path, width: int, height: int, count: int) -> Iterator[Frames]:
    """All `count` presented frames, small and in BGR order, one at a time: the input of scene detection.

    Raises:
        ProgramKilled: ffmpeg was ended by somebody else: cuts may have been missed.
    """
    output = {"vf": f"scale={width}:{height}:flags=fast_bilinear", "fps_mode": "passthrough"}
    command = _reading(path, "V:0", {}, {**output, "format": "rawvideo", "pix_fmt": "bgr24"})
    with _running(command, path, more_seconds=count * SECONDS_PER_FRAME) as reading:
        while True:
            frame = np.empty((height, width, 3), np.uint8)
            if _fill(reading.pipe, frame.data.cast("B")) < frame.nbytes:
                reading.why_it_ended()
                return
            yield frame


def _reading(path: Path, stream: str, source: dict[str, Any], output: dict[str, Any]) -> list[str]:
    """Arguments of an ffmpeg that reads one stream; `V` picks a video track that is no cover art."""
    clip = ffmpeg.input(f"file:{path.absolute()}", threads=THREADS, **ONLY_THE_FILE, **source)
    command: list[str] = ffmpeg.output(clip[stream], "pipe:1", **output).compile(cmd=[program("ffmpeg"), *QUIET])
    return command


def _writing(path: Path, fps: float, size: tuple[int, int], sound: Path | None) -> list[str]:
    pictures = ffmpeg.input(
        "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{size[0]}x{size[1]}", framerate=f"{fps:.6f}"
    )
    inputs = [pictures["v"]] + ([ffmpeg.input(str(sound))["a"]] if sound else [])
    to_bt709 = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p"
    tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
    exact = {"fflags": "+bitexact", "flags:v": "+bitexact", "flags:a": "+bitexact", "map_metadata": -1}
    codecs: dict[str, Any] = {"vcodec": "libx264", "crf": CRF, "preset": "medium", "threads": THREADS}
    if sound:
        codecs |= {"acodec": "aac", "audio_bitrate": "192k"}
    reel = ffmpeg.output(
        *inputs, str(path), vf=to_bt709, movflags="+faststart", format="mp4", **codecs, **tags, **exact
    )
    command: list[str] = reel.compile(
        cmd=[program("ffmpeg"), "-hide_banner", "-loglevel", "error"], overwrite_output=True
    )
    return command


def _sound_file(folder: Path, audio: Waveform | Path | None, rate: int) -> Path | None:
    if audio is None or isinstance(audio, Path):
        return audio
    soundfile.write(folder / "sound.wav", audio.T, rate, subtype="FLOAT")
    return folder / "sound.wav"


def _read_any(path: Path, skipped: float, wanted: float, name: str) -> tuple[Waveform, int]:
    """Sound that soundfile cannot read: `wanted` seconds after `skipped` ones. A late track gets its silence back."""
    sound = probe(path, name, "audio").audio
    rate = sound.rate if sound and sound.rate else 48_000
    channels = 1 if sound and sound.channels == 1 else 2  # ffmpeg would make mono 3 dB quieter on its way to stereo
    end = max(wanted, 0.0) + 0.1  # atrim: a gap of years in its times would be filled with silence
    output = {"af": f"atrim=end={end + 1:.6f},aresample=async=1:first_pts=0", "t": f"{end:.6f}"}
    source = {"ss": f"{skipped:.6f}"} if skipped else {}
    command = _reading(path, "a:0", source, {**output, "ar": rate, "ac": channels, "format": "f32le"})
    with _running(command, path, name) as reading:
        data = reading.pipe.read()
        why = reading.why_it_ended()
        promised = min(wanted, sound.end - skipped) if sound else 0.0
        if not data or len(data) / (4 * channels * rate) < promised - LOST_SECONDS:
            have = f"{len(data) / (4 * channels * rate):.2f} of {promised:.2f} s"
            raise UnreadableClip(name, kind="audio", reason=f"{have}: {why}")
    wave = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], np.float32)
    return as_stereo(wave.reshape(-1, channels).T), rate


class _Reading:
    """One ffmpeg process whose output is read."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], limit: TimeLimit, name: str) -> None:
        assert process.stdout is not None
        self.process, self.pipe, self.errors, self.limit, self.name = process, process.stdout, errors, limit, name

    def why_it_ended(self) -> str:
        """ffmpeg's last message, once its output is over.

        Raises:
            ProgramKilled: it was ended by somebody else.
        """
        self.pipe.read()  # until it has ended, so that all is said
        return self.limit.check(self.process.wait(), "ffmpeg", self.name) or complaint(self.errors)


@contextmanager
def _running(
    command: list[str], path: Path, name: str | None = None, *, more_seconds: float = 0.0
) -> Iterator[_Reading]:
    """Run ffmpeg on a file; its messages go into another file: a pipe would fill up and stop it."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        limit = TimeLimit(process, LEAST_SECONDS + path.stat().st_size / BYTES_PER_SECOND + more_seconds)
        reading = _Reading(process, errors, limit, name or path.name)
        try:
            yield reading
        finally:
            limit.cancel()
            reading.pipe.close()
            process.kill()
            process.wait()


def _fill(pipe: IO[bytes], buffer: memoryview) -> int:
    """Read until the buffer is full or the pipe ends."""
    filled = 0
    while filled < len(buffer):
        count = pipe.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled

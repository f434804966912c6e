"""Tiny clips and archives, made on the spot by ffmpeg."""

import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import soundfile

from schemas.media import FittedVideo, MediaFile
from tasks.media.ffmpeg import decode_video
from tasks.storage.store import keep

SIZE = (96, 64)


def ffmpeg(*options: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True)


def video(path: Path, frames: int = 24, fps: float = 24, *, sound: bool = False, extra: tuple[str, ...] = ()) -> Path:
    """A moving test picture; with a 440 Hz tone as long as the frames."""
    seconds = frames / fps
    tone = ("-f", "lavfi", "-i", f"sine=f=440:r=16000:d={seconds}", "-c:a", "aac") if sound else ()
    picture = f"testsrc2=s={SIZE[0]}x{SIZE[1]}:r={fps}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        picture,
        *tone,
        "-frames:v",
        str(frames),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        *extra,
        str(path),
    )
    return path


def counting(path: Path, frames: int, fps: float, extra: tuple[str, ...] = ("-c:v", "ffv1")) -> Path:
    """Every frame is grey and tells its number: 4 levels of grey per frame."""
    pixels = np.stack([np.full((64, 96, 3), 4 * number, np.uint8) for number in range(frames)])
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        "96x64",
        "-framerate",
        str(fps),
    ]
    subprocess.run([*command, "-i", "-", *extra, str(path)], input=pixels.tobytes(), check=True)
    return path


def grey_numbers(path: Path, fitted: FittedVideo) -> list[int]:
    """Which frames of a counting clip were seen."""
    return [round(float(frame.mean()) / 4) for frame in decode_video(path, fitted)]


def tone(path: Path, seconds: float = 1.0, rate: int = 16000, peak: float = 0.5, channels: int = 1) -> Path:
    """A 440 Hz tone of exactly so many samples, in the format of the extension."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.repeat((peak * np.sin(2 * np.pi * 440 * time))[:, None], channels, axis=1).astype(np.float32)
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, wave, rate)
        return path
    source = path.with_suffix(".source.wav")
    soundfile.write(source, wave, rate)
    ffmpeg("-i", str(source), str(path))
    return path


def kept(path: Path, name: str | None = None) -> MediaFile:
    """A file in the store, as if it had come with an archive."""
    return keep(path, name or path.name)


def archive(path: Path, files: dict[str, bytes | Path]) -> MediaFile:
    """A zip archive in the store."""
    return raw_archive(path, zipped(files))


def raw_archive(path: Path, content: bytes) -> MediaFile:
    path.write_bytes(content)
    return keep(path, path.name)


def zipped(files: dict[str, bytes | Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return buffer.getvalue()

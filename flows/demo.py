"""The demonstration: a small data set made on the spot, and a summary of the training on it.

A disc moves along a path and hums the higher the further right it is. As a reference it is grey and hums an octave
lower; as a mask it is a white square that its path stays in.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
from PIL import Image

from schemas.endpoint import Endpoint
from schemas.layout import IMAGE, VIDEO_WEBM, Slot
from schemas.settings import settings
from tasks.media.ffmpeg import write_video

CLIPS = 4
FPS = 30  # unlike the bucket's, so that fitting has something to say
SECONDS = 1.2
SIZE = (320, 240)
RATE = 48000
RADIUS = 28
LONG_AGO = (2026, 1, 1, 0, 0, 0)  # the same clips make the same archive, so the second run has nothing to fit

SMALL: dict[str, Any] = {  # what keeps a demonstration short; an endpoint gets those fields that it has
    "trigger_phrase": "sh4pes",
    "rank": 8,
    "number_of_steps": 100,
    "learning_rate": 0.001,
    "resolution": "low",
    "aspect_ratio": "16:9",
    "number_of_frames": 17,
    "with_audio": True,
    "audio_duration_seconds": 1.0,
    "conditioning_seconds": 0.3,
    "validation_resolution": "low",
    "validation_aspect_ratio": "16:9",
    "validation_number_of_frames": 17,
}


def make_demo(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Make clips for an endpoint's layout under HOME; return a small request that trains on them."""
    folder = settings().home_folder / "demo" / endpoint.name
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "clips.zip", "w") as archive:
        for number in range(CLIPS):
            for slot in endpoint.layout.slots:
                clip = _write_clip(folder / f"clip{number}{slot.suffix}{_extension(slot)}", slot, number)
                archive.writestr(zipfile.ZipInfo(clip.name, LONG_AGO), clip.read_bytes())
                clip.unlink()
            caption = f"a disc on path {number}, humming"
            archive.writestr(zipfile.ZipInfo(f"clip{number}.txt", LONG_AGO), caption)
    shown = {s.role: _write_clip(folder / f"shown{s.suffix}{_extension(s)}", s, CLIPS) for s in endpoint.layout.slots}
    small = {name: value for name, value in SMALL.items() if name in endpoint.request.model_fields}
    preview = {"prompt": "sh4pes a disc on a new path, humming"}
    media = endpoint.validation_sample.model_construct(prompt="").media()
    preview |= {field: shown[role].as_uri() for (role, _), field in media.items()}
    return {"training_data_url": (folder / "clips.zip").as_uri(), "validation": [preview], **small}


def summary(result: dict[str, Any]) -> str:
    """Where all files of the result are, as text for a person."""
    named = {
        "LoRA": result["lora_file"],
        "config": result["config_file"],
        "preview reel": result["video"] or result["audio"],
        "dataset report": result["dataset_report"],
    }
    places = {what: urlsplit(file["url"]).path for what, file in named.items()}
    bill = result["billing"]
    places["bill"] = (
        f"{settings().ledger_url} ({bill['billable_units']} units, {bill['usd']} USD; see `ltx-flows bills`)"
    )
    lines = "".join(f"  {what:15} {place}\n" for what, place in places.items())
    return f"\nTrained on the tiny base model: its weights are random and its previews are noise.\n{lines}"


def _extension(slot: Slot) -> str:
    return slot.extensions[0]


def _write_clip(path: Path, slot: Slot, number: int) -> Path:
    if path.suffix in IMAGE:
        Image.fromarray(_square()).save(path)
    elif path.suffix in VIDEO_WEBM:
        frames = _pictures(number, grey=slot.role == "reference")
        write_video(path, frames, FPS, SIZE, _hum(number, slot), RATE)
    else:
        soundfile.write(path, _hum(number, slot).T, RATE, subtype="PCM_16")
    return path


def _path(number: int, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the disc in pixels at each time."""
    turn = 2 * np.pi * seconds / SECONDS + number
    return SIZE[0] / 2 + 70 * np.cos(turn), SIZE[1] / 2 + 50 * np.sin((1 + number % 2) * turn)


def _pictures(number: int, grey: bool) -> Iterator[np.ndarray]:
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    ground = np.stack([columns * 160 // SIZE[0], rows * 160 // SIZE[1], 60 + 0 * rows], axis=-1).astype(np.uint8)
    colour = (128, 128, 128) if grey else ((220, 70, 50), (60, 160, 220), (240, 190, 40), (90, 200, 110))[number % 4]
    for x, y in zip(*_path(number, np.arange(round(SECONDS * FPS)) / FPS), strict=True):
        frame = ground.copy()
        frame[(columns - x) ** 2 + (rows - y) ** 2 < RADIUS**2] = colour
        yield frame


def _hum(number: int, slot: Slot) -> np.ndarray:
    """The hum, [2, N]: its pitch follows the disc's column, so that picture and sound belong together."""
    x, _ = _path(number, np.arange(round(SECONDS * RATE)) / RATE)
    pitch = (110.0 if slot.role == "reference" else 220.0) * 2 ** (x / SIZE[0])
    tone = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    return np.stack([tone, tone]).astype(np.float32)


def _square() -> np.ndarray:
    picture = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    picture[40:200, 60:260] = 255  # the disc's path and its radius, and a little more
    return picture

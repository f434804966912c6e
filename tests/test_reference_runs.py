"""The three in-context endpoints from a zip to finished files, through their flows, on the tiny base."""

import json
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from safetensors import safe_open
from safetensors.torch import load_file

from schemas.endpoints import ENDPOINTS
from schemas.settings import settings
from tests import clips

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 512, 288, 9
SMALL = {"rank": 8, "number_of_steps": 100, "learning_rate": 0.001, "trigger_phrase": "zoomy", "debug_dataset": True}
PICTURE = {
    "resolution": "low",
    "aspect_ratio": "16:9",
    "number_of_frames": FRAMES,
    "validation_resolution": "low",
    "validation_aspect_ratio": "16:9",
    "validation_number_of_frames": FRAMES,
}


def path_of(file):
    return Path(unquote(urlsplit(file.url).path))


@pytest.fixture
def finished(prefect, tmp_path, monkeypatch):
    """The result of a run, from files by name in the archive."""
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", "/")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings.cache_clear()

    def run(name, files, preview, **fields):
        from flows.endpoints import FLOWS

        (tmp_path / "clips.zip").write_bytes(clips.zipped(files))
        shown = {key: path.as_uri() if isinstance(path, Path) else path for key, path in preview.items()}
        archive = (tmp_path / "clips.zip").as_uri()
        body = {"training_data_url": archive, **SMALL, **fields, "validation": [{"prompt": "zoomy a wave", **shown}]}
        return FLOWS[name](ENDPOINTS[name].read(body), return_state=True).result()

    return run


def film(path, frames, width):
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    return raw.reshape(frames, -1, width, 3).astype(int)


def films(tmp_path):
    return {
        f"{name}_{side}.mp4": clips.video(
            tmp_path / f"{name}_{side}.mp4",
            12,
            sound=True,
            extra=("-vf", f"crop=96:54,hue=h={hue + 60 * (side == 'end')}"),
        )
        for name, hue in (("a", 0), ("b", 180))
        for side in ("start", "end")
    }


def moved(result):
    tensors = load_file(path_of(result.lora_file))
    return all(tensor.any() for key, tensor in tensors.items() if ".lora_B." in key)


def test_a_pair_of_sounds_trains_end_to_end(finished, tmp_path):
    tones = {
        name: clips.tone(tmp_path / name, 0.8, rate=44100)
        for name in ("a_start.wav", "a_end.mp3", "b_start.m4a", "b_end.wav")
    }
    result = finished(
        "ic-lora/a2a",
        tones | {"a.txt": b"a tone"},
        {"reference_audio_url": tones["a_start.wav"]},
        audio_duration_seconds=0.5,
        split_input_into_scenes=True,
    )
    assert moved(result) and result.video is None and result.billing.usd == result.billing.usd_per_step * 100
    sound, rate = soundfile.read(path_of(result.audio))
    assert len(sound) == 4 * round(9 / 24 * rate)  # twice a reference and its result, 9 frames of 24 a second each
    report = json.loads(path_of(result.dataset_report).read_text())
    assert (report["kept"], report["warnings"][0].split(" is ")[0]) == (2, "split_input_into_scenes")
    assert {"a_reference.wav", "a_target.wav", "manifest.json"} <= set(
        zipfile.ZipFile(path_of(result.debug_dataset)).namelist()
    )


def test_a_pair_of_films_trains_end_to_end_on_a_reference_of_half_the_frames(finished, tmp_path):
    files = films(tmp_path)
    scaled = {**PICTURE, "number_of_frames": 17, "validation_number_of_frames": 17, "auto_scale_input": True}
    silent, sound = clips.video(tmp_path / "silent.mp4", 20), clips.tone(tmp_path / "voice.wav", 0.8)
    preview = {"reference_video_url": silent, "reference_audio_url": sound}
    result = finished("ic-lora/av2av", files, preview, reference_temporal_scale_factor=2, **scaled)
    assert moved(result) and result.audio is None
    with safe_open(path_of(result.lora_file), "pt") as file:
        assert file.metadata()["reference_temporal_scale_factor"] == "2"
    frames = film(path_of(result.video), 2 * 17, 2 * WIDTH)
    reference, shown = frames[:, :HEIGHT, :WIDTH], frames[:, :HEIGHT, WIDTH:]
    assert np.abs(reference[:17] - reference[17:]).mean() < 6  # the same before and after; the result is not
    assert np.abs(shown[:17] - shown[17:]).mean() > 6
    assert "a.mp4" in zipfile.ZipFile(path_of(result.debug_dataset)).namelist()


def test_a_triplet_trains_end_to_end_and_keeps_what_is_black(finished, tmp_path):
    files = films(tmp_path)
    for name in ("a_mask.png", "b_mask.webp"):
        source = "color=black:s=96x54,drawbox=w=48:h=54:c=white:t=fill"
        clips.ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "1", str(tmp_path / name))
    masks = {name: tmp_path / name for name in ("a_mask.png", "b_mask.webp")}
    preview = {
        "video_url": files["b_end.mp4"],
        "mask_url": masks["a_mask.png"],
        "reference_video_url": files["b_start.mp4"],
    }
    result = finished("av2av-masked", files | masks, preview, **PICTURE)
    assert moved(result)
    frames = film(path_of(result.video), 2 * FRAMES, 3 * WIDTH)[:, :HEIGHT]
    source, reference, shown = (frames[:, :, WIDTH * n : WIDTH * n + WIDTH] for n in range(3))
    kept, made = slice(WIDTH // 2 + 8, None), slice(None, WIDTH // 2 - 8)
    assert np.abs(source[:, :, kept] - shown[:, :, kept]).mean() < 6  # H.264 on the same pixels
    assert np.abs(source[:, :, made] - shown[:, :, made]).mean() > 20
    assert np.abs(source - reference).mean() > 10

"""debug_dataset: an archive that a person can open and see what the model saw, for every endpoint."""

import io
import json
import subprocess
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from schemas.endpoints import ENDPOINTS
from schemas.media import Bucket, FitOptions, Picture, Sample
from tasks.debug_dataset import opened, write_debug_dataset
from tasks.fit import fit_samples
from tests.support import clips
from tests.support.sweeps import swept

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
FIELDS = {"extend-prefix": {"with_audio": True}, "audio-extend-prefix": {"conditioning_seconds": 0.4}}
SOUND_FIELDS = {"audio_duration_seconds": 1.0}
FILES = {
    "audio-extend-prefix": {"a.txt", "a_target.wav", "a_given.wav"},
    "extend-prefix": {"a.txt", "a.mp4", "a_target.wav", "a_given.wav"},
    "ic-lora/a2a": {"a.txt", "a_reference.wav", "a_target.wav"},
    "ic-lora/av2av": {"a.txt", "a.mp4", "a_reference.wav", "a_target.wav"},
    "av2av-masked": {"a.txt", "a.mp4", "a_reference.wav", "a_target.wav"},
}


@pytest.fixture
def written(tmp_path):
    def write(name):
        """The archive of one sample, by name of its files."""
        endpoint = ENDPOINTS[name]
        audio = endpoint.layout.modality == "audio"
        body = {"training_data_url": "x.zip", **FIELDS.get(name, {}), **(SOUND_FIELDS if audio else {})}
        request = endpoint.read(body)
        bucket = request.bucket if audio else BUCKET
        plan = endpoint.plan(request, bucket)
        clip = clips.tone(tmp_path / "a.wav", 1.2) if audio else clips.video(tmp_path / "a.mp4", 20, sound=True)
        mask = np.zeros((64, 96), np.uint8)
        mask[8:24, 24:40] = 255  # 16 columns are cropped off on the left
        Image.fromarray(mask).save(tmp_path / "mask.png")
        files = {s.role: clips.kept(tmp_path / "mask.png" if s.role == "mask" else clip) for s in endpoint.layout.slots}
        sample = Sample(name="a", caption="a caption", files=files)
        fitted = fit_samples((sample,), bucket, plan.tracks, FitOptions()).samples
        write_debug_dataset(tmp_path / "debug.zip", fitted, (plan,), "zoomy", lambda done, total: None)
        with zipfile.ZipFile(tmp_path / "debug.zip") as archive:
            return {entry: archive.read(entry) for entry in archive.namelist()}

    return write


def film(content, tmp_path, width):
    (tmp_path / "film.mp4").write_bytes(content)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "film.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    return raw.reshape(17, -1, width, 3)


@pytest.mark.parametrize("name", swept(ENDPOINTS, short=3))
def test_every_endpoint_has_clips_prompt_and_manifest(written, name):
    files = written(name)
    assert files.keys() == FILES[name] | {"manifest.json"}
    assert files["a.txt"] == b"zoomy a caption"
    [told] = json.loads(files["manifest.json"])["samples"]
    assert (told["name"], told["prompt"], set(told["in_this_archive"])) == ("a", "zoomy a caption", FILES[name])
    assert set(told["sample"]["clips"]) == {slot.role for slot in ENDPOINTS[name].layout.slots}


def test_reference_mask_and_target_stand_side_by_side_with_the_opened_cells_in_grey(written, tmp_path):
    frames = film(written("av2av-masked")["a.mp4"], tmp_path, 3 * 64)
    reference, mask, target = (frames[:, :64, 64 * n : 64 * n + 64].astype(int) for n in range(3))
    assert np.abs(reference - target).mean() < 6  # the same clip here
    assert mask[:, 12:20, 12:20].min() > 230 and mask[:, 40:].max() < 20
    assert 80 < mask[:, :32, 27:30].min() <= mask[:, :32, 27:30].max() < 112
    assert frames[:, 64:].std() > 5  # labels and prompt


def test_the_given_opening_is_framed(written, tmp_path):
    frames = film(written("extend-prefix")["a.mp4"], tmp_path, 64)
    edges = frames[:, 1, 8:56].astype(int).mean(axis=(1, 2))
    assert (edges[:9] > 230).all() and (edges[9:] < 230).all()


def test_the_given_opening_of_a_sound_is_a_file_of_its_own(written):
    files = written("audio-extend-prefix")
    given, whole = (soundfile.read(io.BytesIO(files[f"a_{what}.wav"]))[0] for what in ("given", "target"))
    assert (len(given), len(whole)) == (0.4 * 48000, 48000)
    assert np.array_equal(whole[: len(given)], given)


def test_a_masks_white_stays_white_and_its_cells_are_grey_in_their_time_group():
    mask = torch.zeros(9, 64, 64, 3, dtype=torch.uint8)
    mask[5, 3, 40] = 255
    shown = opened(mask)[..., 0]
    assert shown[5, 3, 40] == 255 and shown[1:, :32, 32:].ge(96).all()
    assert shown[0].eq(0).all() and shown[:, 32:].eq(0).all() and shown[:, :, :32].eq(0).all()


def test_the_same_data_set_gives_the_same_archive(written, tmp_path):
    first = written("ic-lora/a2a") and (tmp_path / "debug.zip").read_bytes()
    assert written("ic-lora/a2a") and (tmp_path / "debug.zip").read_bytes() == first

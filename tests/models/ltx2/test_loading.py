"""The tiny base, and loading components of a base model."""

import shutil
from pathlib import Path

import pytest
import torch

from models.ltx2 import bundle, tiny
from models.ltx2 import loading as base
from models.ltx2.bundle import TINY_FOLDER, fingerprint, is_tiny, resolve
from models.ltx2.loading import load_transformer, pick_device, pick_dtype
from models.ltx2.transformer import velocities
from schemas.errors import BaseModelUnavailable
from tests.models.ltx2.test_transformer import stream
from tests.support.tensors import CPU, tiny_base, tiny_transformer


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_two_builds_are_identical_and_leave_the_callers_randomness_alone(tmp_path):
    torch.manual_seed(7)
    tiny.build(tmp_path / "again")
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.rand(1).equal(after)
    assert contents(tmp_path / "again") == contents(tiny_base())


def test_tiny_is_built_once_under_home_and_other_bases_stay_as_they_are(tmp_path, monkeypatch):
    folder = resolve("tiny", tmp_path)
    assert folder == str(tmp_path / "base" / TINY_FOLDER) and is_tiny("tiny")
    monkeypatch.setattr(tiny, "build", lambda folder: pytest.fail("built again"))
    assert resolve("tiny", tmp_path) == folder
    assert resolve(folder, tmp_path / "elsewhere") == folder


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_tiny_base_that_is_damaged_is_built_anew(tmp_path, damage):
    weights = next(Path(resolve("tiny", tmp_path)).glob("transformer/*.safetensors"))
    whole = weights.read_bytes()
    weights.unlink() if damage is None else weights.write_bytes(damage)
    resolve("tiny", tmp_path)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"", b"half", b"x" * 100])
def test_a_base_whose_weights_are_cut_is_refused_by_the_files_name(tmp_path, damage):
    copied = shutil.copytree(tiny_base(), tmp_path / "copy")
    cut = next((copied / "vae").glob("*.safetensors"))
    cut.write_bytes(cut.read_bytes()[:5000] if damage == b"half" else damage)
    with pytest.raises(BaseModelUnavailable, match=f"{cut} is damaged"):
        resolve(str(copied), tmp_path)


def test_sound_alone_leaves_the_rest_on_meta_and_equals_the_whole_model():
    alone = tiny_transformer("audio")
    loaded = {name for name, weight in alone.named_parameters() if not weight.is_meta}
    assert not any("video" in name or name.startswith(("proj_", "time_embed")) for name in loaded)
    assert all("audio" in name for name in loaded)
    sound = {"audio": stream("audio", width=32)}
    assert velocities(alone, sound)["audio"].equal(velocities(tiny_transformer(), sound)["audio"])


def test_video_alone_leaves_sound_on_meta():
    alone = tiny_transformer("video")
    assert not any("audio" in name for name, weight in alone.named_parameters() if not weight.is_meta)
    picture = {"video": stream("video", width=64)}
    assert velocities(alone, picture)["video"].equal(velocities(tiny_transformer(), picture)["video"])


def test_the_transformer_is_frozen():
    assert not any(weight.requires_grad for weight in tiny_transformer().parameters())


def test_a_fingerprint_is_that_of_the_weights(tmp_path):
    copied = shutil.copytree(tiny_base(), tmp_path / "copy")
    assert fingerprint(str(copied), "vae") == fingerprint(tiny_base(), "vae")
    weights = next((copied / "vae").glob("*.safetensors"))
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert fingerprint(str(copied), "vae") != fingerprint(tiny_base(), "vae")
    assert fingerprint(str(copied), "vocoder") == fingerprint(tiny_base(), "vocoder")


def test_large_weights_are_fingerprinted_by_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "BLOCK_BYTES", 4)
    (tmp_path / "vae").mkdir()
    weights = tmp_path / "vae" / "w.safetensors"
    weights.write_bytes(bytes(10_000))
    first = fingerprint(str(tmp_path), "vae")
    weights.write_bytes(bytes(9_999) + b"\1")  # the last block reaches the end
    assert fingerprint(str(tmp_path), "vae") != first


def test_a_missing_component_says_what_a_base_model_is(tmp_path):
    with pytest.raises(BaseModelUnavailable, match=r"has no folder transformer; the base model is a diffusers-format"):
        load_transformer(str(tmp_path), ("audio",), CPU, torch.float32)


def test_a_base_that_is_neither_folder_nor_hub_id_is_explained():
    with pytest.raises(BaseModelUnavailable, match=r"has no folder vocoder; .* accept its licence"):
        base.load_vocoder("/nowhere/to/be/found", CPU)


def test_an_incomplete_download_is_noticed(tmp_path):
    copied = shutil.copytree(tiny_base(), tmp_path / "copy")
    next((copied / "transformer").glob("*.safetensors")).write_bytes(b"half")
    with pytest.raises(BaseModelUnavailable, match=r"transformer does not load"):
        load_transformer(str(copied), ("audio",), CPU, torch.float32)


def test_the_device_is_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU and pick_dtype(CPU) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda" and pick_dtype(pick_device("auto")) == torch.bfloat16

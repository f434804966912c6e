"""Golden files, the tiny base and small samples that several tests of models/ need."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import LTX2VideoTransformer3DModel
from safetensors import safe_open

from models.ltx2.bundle import TINY, resolve
from models.ltx2.loading import load_transformer
from models.training_inputs import TrainingSample
from schemas.plan import Mask, Plan, Prefix, Reference, generate

GOLDEN = Path(__file__).parents[1] / "golden"
CPU = torch.device("cpu")

PLANS = {
    "audio prefix": Plan(audio=generate(Prefix(steps=2))),
    "audio reference": Plan(audio=generate(Reference())),
    "video prefix": Plan(video=generate(Prefix(steps=1))),
    "both prefixes": Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2))),
    "both references": Plan(video=generate(Reference(downscale=2, temporal_scale=2)), audio=generate(Reference())),
    "masked": Plan(video=generate(Mask(), Reference()), audio=generate(Reference())),
}


def read_golden(path):
    """Tensors and metadata of one golden file."""
    with safe_open(path, "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items() if key != "official_commit"}
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118


@lru_cache(maxsize=1)
def golden_model():
    weights, metadata = read_golden(GOLDEN / "transformer_weights_diffusers.safetensors")
    model = LTX2VideoTransformer3DModel.from_config(metadata["diffusers_config"])
    model.load_state_dict(weights, strict=True)
    return model.requires_grad_(False).eval()


def packed(kind, latent):
    """Golden audio [B, 8, T, 16] -> our [B, T, 128]; video stays."""
    return latent.transpose(1, 2).flatten(2) if kind == "audio" and latent is not None else latent


@lru_cache(maxsize=1)
def tiny_base():
    return resolve(TINY, Path(tempfile.mkdtemp(prefix="ltx-flows-tests-")))


def tiny_transformer(*modalities, device=CPU, away=0):
    return load_transformer(tiny_base(), modalities or ("video", "audio"), device, torch.float32, away=away)


def random_sample(plan, seed=0, name="clip"):
    """Latents of 33 frames (a slower reference: 17) at 64x64 and ten steps of sound, for every track of a plan."""
    draw = torch.Generator().manual_seed(seed)
    latents = {("mask", "video"): torch.arange(5 * 4).reshape(5, 2, 2) % 3 > 0}
    for track in plan.tracks:
        if track.role != "mask":
            side, steps = 2 // track.downscale, 4 // track.temporal_scale + 1
            shape = (128, steps, side, side) if track.modality == "video" else (10, 128)
            latents[track.role, track.modality] = torch.randn(shape, generator=draw)
    context = {"video": torch.randn(16, 64, generator=draw), "audio": torch.randn(16, 32, generator=draw)}
    return TrainingSample(name=name, plan=plan, fps=25.0, latents=latents, context=context)

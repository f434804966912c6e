"""What train_step.py measures on: each endpoint's plan at its default shape, random clips, a base model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import LTX2VideoTransformer3DModel

from models.ltx2.bundle import TINY, resolve
from models.ltx2.loading import load_transformer, needed, pick_dtype
from models.tokens import Grid
from models.training_inputs import TrainingSample
from schemas.endpoints import ENDPOINTS
from schemas.media import Bucket, Modality, Picture
from schemas.plan import Plan
from schemas.units import video_steps

TINY_PICTURE = Picture(width=256, height=256, frames=33, fps=24)
FULL_SIZE = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "num_layers": 48,
}


@dataclass(frozen=True)
class Case:
    """One plan at one shape."""

    name: str
    plan: Plan
    bucket: Bucket


def cases(tiny: bool) -> list[Case]:
    """The five plans at the seeds' defaults, and the one with sound switched on."""
    asked = [(name, {}) for name in ENDPOINTS] + [("extend-prefix", {"with_audio": True})]
    made = []
    for name, fields in asked:
        endpoint = ENDPOINTS[name]
        request = endpoint.request(training_data_url="none", **fields)
        bucket = Bucket.of(TINY_PICTURE) if tiny and request.bucket.picture else request.bucket
        made.append(Case(name + (" +sound" if fields else ""), endpoint.plan(request, bucket), bucket))
    return made


def random_clip(case: Case, widths: dict[Modality, int]) -> TrainingSample:
    draw = torch.Generator().manual_seed(0)
    latents = {}
    for track in case.plan.tracks:
        steps, height, width = grid(case.bucket, track.downscale) if track.modality == "video" else (0, 0, 0)
        if track.role == "mask":
            latents[track.role, track.modality] = torch.rand(steps, height, width, generator=draw) > 0.5
        else:
            shape = (128, steps, height, width) if steps else (case.bucket.audio_steps, 128)
            latents[track.role, track.modality] = torch.randn(shape, generator=draw)
    context = {modality: torch.randn(1024, widths[modality], generator=draw) for modality in case.plan.modalities}
    return TrainingSample(name="clip", plan=case.plan, fps=24.0, latents=latents, context=context)


def grid(bucket: Bucket, downscale: int) -> Grid:
    picture = bucket.picture
    assert picture is not None
    return video_steps(picture.frames), picture.height // 32 // downscale, picture.width // 32 // downscale


class Base:
    """Where models come from: the tiny base, or random weights in the full shape."""

    def __init__(self, tiny: bool, device: torch.device) -> None:
        self.tiny, self.device, self.dtype = tiny, device, pick_dtype(device)
        self.folder = resolve(TINY, Path(tempfile.mkdtemp()))
        config = dict(LTX2VideoTransformer3DModel.load_config(Path(self.folder) / "transformer"))
        self.config = config if tiny else {**config, **FULL_SIZE}
        self.widths: dict[Modality, int] = {
            "video": self.config["cross_attention_dim"],
            "audio": self.config["audio_cross_attention_dim"],
        }

    def model(self, modalities: tuple[Modality, ...]) -> LTX2VideoTransformer3DModel:
        if self.tiny:
            return load_transformer(self.folder, modalities, self.device, self.dtype)
        model = self.skeleton()
        for name, weight in list(model.named_parameters()):
            if needed(name, modalities):
                drawn = torch.empty(weight.shape, device=self.device, dtype=self.dtype).normal_(std=0.02)
                owner = model.get_submodule(name.rpartition(".")[0])
                setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(drawn, requires_grad=False))
        return model

    def skeleton(self) -> LTX2VideoTransformer3DModel:
        with torch.device("meta"):
            model = LTX2VideoTransformer3DModel.from_config(self.config).requires_grad_(False).eval()
        for weight in model.parameters():
            weight.data = weight.data.to(self.dtype)  # `model.to` warns of its float32 modules, of which it has none
        return model

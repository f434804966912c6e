"""The LoRA adapter: the modules it attaches to, and its file format.

One file format loads everywhere (docs/ltx2.md, E): the official key names, bfloat16, no alpha keys, alpha == rank.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.noise import generator_of
from models.weights.lora_linear import AdaptedLinear
from schemas.media import Modality
from schemas.plan import Plan

PREFIX = "diffusion_model."
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
VIDEO_ATTENTION = ("attn1", "attn2")
AUDIO_ATTENTION = ("audio_attn1", "audio_attn2")
BETWEEN_STREAMS = ("audio_to_video_attn", "video_to_audio_attn")
AUDIO_FEED_FORWARD = ("audio_ff.net.0.proj", "audio_ff.net.2")
SIDES = ("lora_A", "lora_B")
NAME = "default"  # of the one adapter, inside PEFT


def targets(modalities: tuple[Modality, ...]) -> tuple[str, ...]:
    """Modules of a block that carry an adapter; only sound alone adapts its feed-forward (docs/ltx2.md, section E)."""
    attention = {
        ("video",): VIDEO_ATTENTION,
        ("audio",): AUDIO_ATTENTION,
        ("video", "audio"): VIDEO_ATTENTION + AUDIO_ATTENTION + BETWEEN_STREAMS,
    }[modalities]
    extra = AUDIO_FEED_FORWARD if modalities == ("audio",) else ()
    return (*(f"{module}.{projection}" for module in attention for projection in PROJECTIONS), *extra)


def add_adapter(transformer: nn.Module, rank: int, modalities: tuple[Modality, ...], seed: int) -> None:
    """Attach a fresh adapter: alpha = rank, dropout 0, float32 weights even on a bfloat16 base.

    A is drawn uniformly within +-1/sqrt(inputs) from the seed alone, B is zero: at first nothing changes.
    """
    layers = range(len(transformer.get_submodule("transformer_blocks")))  # type: ignore[arg-type]
    modules = [f"transformer_blocks.{layer}.{target}" for layer in layers for target in targets(modalities)]
    _attach(transformer, rank, modules)
    for draw, (key, parameter) in enumerate(_weights(transformer)):
        if ".lora_A." in key:
            fresh = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator_of("adapter", seed, draw))
            parameter.data.copy_(fresh)


def _attach(transformer: nn.Module, rank: int, modules: list[str]) -> None:
    with torch.random.fork_rng(devices=[]):  # PEFT draws from the global generator
        config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=modules)
        config._register_custom_module({nn.Linear: AdaptedLinear})  # PEFT's way in for layers of one's own
        transformer.add_adapter(config, adapter_name=NAME)  # type: ignore[operator]
    for _, parameter in _weights(transformer):
        parameter.data = parameter.data.float()  # PEFT keeps the base's dtype here


def adapter_parameters(transformer: nn.Module) -> list[nn.Parameter]:
    """All weights of the adapter, in an order that does not change between processes."""
    return [parameter for _, parameter in _weights(transformer)]


def _weights(transformer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's weights under their official names."""
    for name, parameter in transformer.named_parameters():
        if any(f".{side}.{NAME}." in name for side in SIDES):
            yield PREFIX + name.replace(f".{NAME}.", "."), parameter


def export(transformer: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors as they are written: official keys, bfloat16, on the CPU."""
    return {key: weight.detach().to("cpu", torch.bfloat16).contiguous() for key, weight in _weights(transformer)}


def load_into(transformer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Attach a written adapter to a model that has none, at its own rank and to its own modules."""
    rank = next(tensor.shape[0] for key, tensor in tensors.items() if ".lora_A." in key)
    modules = sorted({key.removeprefix(PREFIX).split(".lora_")[0] for key in tensors})
    _attach(transformer, rank, modules)
    with torch.no_grad():
        for key, parameter in _weights(transformer):
            parameter.copy_(tensors[key])


def save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write the file that users load: the same bytes for the same tensors and metadata."""
    save_file(dict(tensors), str(path), metadata=dict(metadata))
    _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """Sort a file's metadata: safetensors writes it in an order that differs from call to call (a hash map of Rust)."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length  # nothing was added, and what is missing is padding
        file.seek(8)
        file.write(text.ljust(length))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of an adapter's file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def lora_metadata(plan: Plan) -> dict[str, str]:
    """Metadata that a player needs beside the weights: the reference's factors, where they are not 1."""
    reference = plan.video.reference("video") if plan.video else None
    factors = {}
    if reference and reference.downscale != 1:
        factors["reference_downscale_factor"] = str(reference.downscale)
        factors["reference_spatial_scale_factor"] = str(reference.downscale)  # the same under its newer name
    if reference and reference.temporal_scale != 1:
        factors["reference_temporal_scale_factor"] = str(reference.temporal_scale)
    return factors


def file_bytes(transformer: nn.Module, rank: int, modalities: tuple[Modality, ...]) -> int:
    """Size of the file with empty metadata, from the shapes alone; the model may lie on the meta device."""
    shapes = {}
    for layer, block in enumerate(transformer.get_submodule("transformer_blocks").children()):
        for target in targets(modalities):
            linear = block.get_submodule(target)
            assert isinstance(linear, nn.Linear)
            key = f"{PREFIX}transformer_blocks.{layer}.{target}"
            shapes[f"{key}.lora_A.weight"] = (rank, linear.in_features)
            shapes[f"{key}.lora_B.weight"] = (linear.out_features, rank)
    data = 2 * sum(rows * columns for rows, columns in shapes.values())
    return 8 + _header_bytes(shapes.items()) + data


def _header_bytes(shapes: Iterable[tuple[str, tuple[int, int]]]) -> int:
    """Bytes of safetensors' JSON header: tensors by name, their places in the file, padded to eight bytes."""
    header: dict[str, object] = {"__metadata__": {}}
    offset = 0
    for key, (rows, columns) in sorted(shapes):
        end = offset + 2 * rows * columns
        header[key] = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":")))
    return -(-length // 8) * 8

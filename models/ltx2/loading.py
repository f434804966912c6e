"""Loading the base model, one component at a time; the tiny model and the real one go the same way.

diffusers, transformers and PEFT take three seconds to import: that is done where a component is loaded, and a run
begins without them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from models.ltx2.bundle import ADVICE, folder_of
from models.weights.offload import Offload, layers_to_send_away
from schemas.errors import BaseModelUnavailable, MachineNotReady
from schemas.media import Modality
from schemas.settings import BaseWeights, OffloadedBlocks

if TYPE_CHECKING:
    from diffusers import LTX2VideoTransformer3DModel
    from transformers import PreTrainedTokenizerBase


SHARE_OF_ACTIVATIONS = 0.2  # of a device's memory, left free when it is decided which blocks stay in main memory

BETWEEN_STREAMS = ("audio_to_video_", "video_to_audio_", "video_a2v_", "audio_a2v_", "av_cross_attn_")


def pick_device(wanted: str) -> torch.device:
    """The device of a setting: `auto` is CUDA where there is one, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineNotReady(f"the device is set to {wanted}, but torch sees no CUDA device; set it to auto or cpu")
    return device


def pick_dtype(device: torch.device) -> torch.dtype:
    """The dtype of the frozen base: bfloat16 on a GPU; float32 on the CPU, where bfloat16 is slow."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a name such as `torch.bfloat16`."""
    dtype = getattr(torch, name.removeprefix("torch."))
    assert isinstance(dtype, torch.dtype)
    return dtype


def load_video_vae(base: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The causal video autoencoder, 32x32 pixels and 8 frames per latent cell."""
    from diffusers import AutoencoderKLLTX2Video  # noqa: PLC0415

    return _load(base, "vae", partial(AutoencoderKLLTX2Video.from_pretrained, torch_dtype=dtype), device)


def load_audio_vae(base: str, device: torch.device) -> nn.Module:
    """The audio autoencoder, always float32, as the official trainer encodes sound."""
    from diffusers import AutoencoderKLLTX2Audio  # noqa: PLC0415

    read = partial(AutoencoderKLLTX2Audio.from_pretrained, torch_dtype=torch.float32)
    return _load(base, "audio_vae", read, device)


def load_vocoder(base: str, device: torch.device) -> nn.Module:
    """Mel to a 48 kHz waveform, always float32: bfloat16 is audible."""
    from diffusers.pipelines.ltx2 import LTX2VocoderWithBWE  # noqa: PLC0415

    return _load(base, "vocoder", partial(LTX2VocoderWithBWE.from_pretrained, torch_dtype=torch.float32), device)


def load_text(
    base: str, device: torch.device, dtype: torch.dtype, kept_as: BaseWeights = "bf16"
) -> tuple["PreTrainedTokenizerBase", nn.Module, nn.Module]:
    """Tokenizer, Gemma and the connectors that turn its hidden states into the transformer's text.

    Gemma in 8 bits (made in main memory) takes half of the device's; the connectors are small and stay whole.
    """
    from diffusers.pipelines.ltx2 import LTX2TextConnectors  # noqa: PLC0415
    from transformers import AutoTokenizer, Gemma3ForConditionalGeneration  # noqa: PLC0415

    from models.weights.lora_linear import store_linears  # noqa: PLC0415

    folder = folder_of(base, "tokenizer")
    with _explained(base, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    first = device if kept_as == "bf16" else torch.device("cpu")
    encoder = _load(base, "text_encoder", partial(Gemma3ForConditionalGeneration.from_pretrained, dtype=dtype), first)
    store_linears(encoder, kept_as)
    encoder.to(device)
    connectors = _load(base, "connectors", partial(LTX2TextConnectors.from_pretrained, torch_dtype=dtype), device)
    return tokenizer, encoder, connectors


def load_transformer(
    base: str,
    modalities: tuple[Modality, ...],
    device: torch.device,
    dtype: torch.dtype,
    kept_as: BaseWeights = "bf16",
    away: OffloadedBlocks = 0,
    beat: Callable[[], None] = lambda: None,
) -> "LTX2VideoTransformer3DModel":
    """The transformer, frozen, with only the weights that these streams need.

    Weights of an absent stream stay on the meta device: sound alone reads 6.6 GB of 38 (docs/ltx2.md, A).
    Weights kept in 8 bits are made from `dtype` in main memory: the device never holds both.

    Args:
        away: blocks, counted from the first, whose weights stay in main memory; `auto`: as few as the device needs.
        beat: called for every weight; all of them together take minutes.

    Raises:
        BaseModelUnavailable: the component is missing, incomplete, or not an LTX-2.3.
    """
    from models.weights.lora_linear import store_linears  # noqa: PLC0415

    folder = folder_of(base, "transformer")
    with _explained(base, "transformer"):
        model = _without_weights(folder, base)
        wanted = {name for name in model.state_dict() if needed(name, modalities)}
        if away == "auto":
            away = _blocks_to_send_away(model, wanted, dtype, kept_as, device)
        first = device if kept_as == "bf16" and not away else torch.device("cpu")
        weights = _converted(folder, wanted, first, dtype, beat)
    if missing := wanted - weights.keys():
        raise BaseModelUnavailable(f"{base}/transformer lacks {len(missing)} weights, e.g. {min(missing)}; {ADVICE}")
    model.load_state_dict(weights, strict=False, assign=True)
    model.requires_grad_(False).eval()
    if kept_as != "bf16" or away:
        store_linears(model, kept_as, Offload(device) if away else None, away)
        _move(model, device)
    return model


def _converted(
    folder: Path, wanted: set[str], device: torch.device, dtype: torch.dtype, beat: Callable[[], None]
) -> dict[str, torch.Tensor]:
    """The named weights of a component in another precision."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in _read(folder, wanted, device):
        weights[name] = tensor.to(dtype)
        beat()
    return weights


def _without_weights(folder: Path, base: str) -> "LTX2VideoTransformer3DModel":
    """The transformer of a folder on the meta device."""
    from diffusers import LTX2VideoTransformer3DModel  # noqa: PLC0415

    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel.from_config(LTX2VideoTransformer3DModel.load_config(folder))
    if not (model.config.cross_attn_mod and model.config.audio_cross_attn_mod and model.config.perturbed_attn):
        raise BaseModelUnavailable(f"{base} is not an LTX-2.3: its transformer lacks text modulation")
    return model


def _blocks_to_send_away(
    model: "LTX2VideoTransformer3DModel",
    wanted: set[str],
    dtype: torch.dtype,
    kept_as: BaseWeights,
    device: torch.device,
) -> int:
    """The fewest blocks that leave a share of the device to activations; on the CPU none need to be sent away."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    blocks, others = 0, 0
    for name, weight in model.state_dict().items():
        if name in wanted:
            in_block = name.startswith("transformer_blocks.")
            width = 1 if in_block and weight.ndim == 2 and kept_as != "bf16" else dtype.itemsize
            blocks, others = (
                blocks + in_block * weight.numel() * width,
                others + (not in_block) * weight.numel() * width,
            )
    layers = len(model.transformer_blocks)
    return layers_to_send_away(layers, blocks // layers, others, free, round(SHARE_OF_ACTIVATIONS * total))


def _move(model: nn.Module, device: torch.device) -> None:
    """Move all weights to the device but those that only visit it, which are pinned, so that they travel fast."""
    from models.weights.lora_linear import StoredLinear  # noqa: PLC0415

    for module in model.modules():
        visitor = isinstance(module, StoredLinear) and module.visits is not None
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if visitor and name == "weight":
                tensor.data = tensor.data.pin_memory() if device.type == "cuda" else tensor.data
            elif not tensor.is_meta:
                tensor.data = tensor.data.to(device)


def needed(name: str, modalities: tuple[Modality, ...]) -> bool:
    """Whether a weight of the transformer takes part when just these streams run."""
    local = name.split(".", 2)[2] if name.startswith("transformer_blocks.") else name
    if local.startswith(BETWEEN_STREAMS):
        return len(modalities) == 2
    return ("audio" if local.startswith("audio_") else "video") in modalities


def _read(folder: Path, wanted: set[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """The wanted tensors out of one weight file or of all shards."""
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    shards = {"diffusion_pytorch_model.safetensors"}
    if index.exists():
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        shards = {shard for name, shard in weight_map.items() if name in wanted}
    for shard in sorted(shards):
        with safe_open(folder / shard, framework="pt", device=str(device)) as file:
            for name in wanted & set(file.keys()):
                yield name, file.get_tensor(name)


def _load(base: str, component: str, read: Callable[[Path], nn.Module], device: torch.device) -> nn.Module:
    folder = folder_of(base, component)
    with _explained(base, component):
        return read(folder).to(device).requires_grad_(False).eval()


@contextmanager
def _explained(base: str, component: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BaseModelUnavailable(f"{base}/{component} does not load ({first_line}); {ADVICE}") from error

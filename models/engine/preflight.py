"""Memory preflight: a trial before step 1 shows if a training fits the device, and how many blocks to recompute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.engine.trainer import LoraTraining
from models.training_inputs import Streams

SPARE = 0.04  # of the device's memory: fragmentation, and kernels that need a workspace
OPTIMISER_BYTES = 8  # of AdamW's two moments per trained number


@dataclass(frozen=True)
class MemoryPlan:
    """Result of a trial step: the blocks to recompute, and the memory that was measured."""

    tokens: int
    layers: int
    recomputed: int
    peak_bytes: int | None = None
    free_bytes: int | None = None


def preflight(
    module: LoraTraining, batch: Sequence[Streams], device: torch.device, *, recompute_all: bool
) -> MemoryPlan:
    """Take one worst-case step for trial, and settle how many blocks the module recomputes.

    The adapter, its optimiser and the random generators stay as they are.

    Args:
        batch: the longest sample, on the device.
        recompute_all: the device has run out of memory before; measure nothing, take the safest way.

    Raises:
        torch.OutOfMemoryError: the step does not fit even where every block is recomputed.
    """
    layers = len(list(module.base[0].get_submodule("transformer_blocks").children()))
    tokens = sum(stream.length for streams in batch for stream in streams.values())
    if device.type != "cuda":  # main memory is not measured: it is large, and nothing but us fills it
        module.recomputed = layers if recompute_all else 0
        trial(module, batch)
        return MemoryPlan(tokens, layers, module.recomputed)
    module.recomputed = layers
    torch.cuda.reset_peak_memory_stats(device)
    trial(module, batch)
    peak = torch.cuda.max_memory_allocated(device)
    free = _free_bytes(device, peak) - OPTIMISER_BYTES * sum(weight.numel() for weight in module.adapter)
    if not recompute_all:
        module.recomputed = blocks_to_recompute(layers, free, block_bytes(module, batch, layers))
        trial(module, batch)
    return MemoryPlan(tokens, layers, module.recomputed, peak, free)


def blocks_to_recompute(layers: int, free_bytes: int, bytes_per_block: int) -> int:
    """The fewest blocks that the memory allows: every block remembered instead costs its activations."""
    remembered = max(0, free_bytes) // max(1, bytes_per_block)
    return max(0, layers - remembered)


def block_bytes(module: LoraTraining, batch: Sequence[Streams], layers: int) -> int:
    """Bytes of one block's activations if they are remembered, counted on the last block."""
    counted = []
    for recomputed in (layers, layers - 1):
        module.recomputed = recomputed
        counted.append(remembered_bytes(module, batch))
    return counted[1] - counted[0]


def remembered_bytes(module: LoraTraining, batch: Sequence[Streams]) -> int:
    """Bytes that a batch's forward pass keeps for its backward pass, without weights, each storage counted once."""
    ours = {weight.untyped_storage().data_ptr() for weight in module.base[0].parameters() if not weight.is_meta}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, _same):
        losses = [module.losses(streams) for streams in batch]  # held, so that no address is used twice
    del losses
    return sum(kept.values())


def _same(tensor: Any) -> Any:
    return tensor


def trial(module: LoraTraining, batch: Sequence[Streams]) -> None:
    """Take one step forward and back that leaves nothing behind."""
    torch.stack([module.losses(streams) for streams in batch]).mean(0).sum().backward()  # type: ignore[no-untyped-call]
    for weight in module.adapter:
        weight.grad = None


def _free_bytes(device: torch.device, peak: int) -> int:
    """Bytes left beside the peak: others' memory counts as taken, our own cache as free."""
    free, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.memory_reserved(device)
    return int(free + ours - peak - SPARE * total)

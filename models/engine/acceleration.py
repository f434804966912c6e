"""Acceleration without changing results: the attention kernel, and compiled blocks."""

from collections.abc import Sequence

import torch
from torch._dynamo.exc import TorchDynamoException

from models.engine.preflight import trial
from models.engine.trainer import LoraTraining
from models.ltx2.transformer import run_block
from models.training_inputs import Streams
from schemas.settings import Compile

COMPILE_FROM_STEPS = 300  # compiling takes a minute or two


def worth_compiling(wanted: Compile, device: torch.device, steps: int, *, visits: bool) -> bool:
    """Whether a training gains more than compiling costs. Weights that visit the device cannot be traced."""
    if visits or wanted == "off":
        return False
    return wanted == "on" or (device.type == "cuda" and steps >= COMPILE_FROM_STEPS)


def compile_blocks(module: LoraTraining, batch: Sequence[Streams], backend: str = "inductor") -> str | None:
    """Train through compiled blocks from here on: one graph for all of them, or two where the first has no gradient.

    A step is taken for trial, on the longest sample; blocks that cannot be compiled here are left as they were.

    Returns:
        Why they were left, or nothing.
    """
    module.run_block = torch.compile(run_block, backend=backend)
    try:
        trial(module, batch)
    except (TorchDynamoException, torch.OutOfMemoryError) as error:
        module.run_block = run_block
        return " ".join(str(error).splitlines()[:2])
    return None

"""Memory and disk that LTX-2.3 takes, in GB: computed on tensors without data, one sample, rank 32, default shapes."""

from schemas.settings import BaseWeights

ENCODING: dict[BaseWeights, float] = {"bf16": 25.7, "fp8": 14.6, "int8": 14.6}  # of prompts, on the device: Gemma
_EIGHT_BITS = {"sound": 5.2, "video": 20.7, "video with sound": 29.7, "references": 36.3}
TRAINING: dict[BaseWeights, dict[str, float]] = {  # on the device, all activations recomputed, no block offloaded
    "bf16": {"sound": 8.3, "video": 33.1, "video with sound": 47.3, "references": 53.3},
    "fp8": _EIGHT_BITS,
    "int8": _EIGHT_BITS,
}
TRANSFORMER = 38.0  # in main memory, where blocks wait there, or are made into 8 bits there
GEMMA = 24.4  # in main memory, where it is made into 8 bits there
CONNECTORS = 12.7  # in main memory, in float32, as they are read
ON_THE_CPU = 76.0  # in main memory: the transformer in float32
DOWNLOAD = 101.0  # on disk: diffusers/LTX-2.3-Diffusers
RUN = 10.0  # on disk: clips, latents and checkpoints of a small run
TINY_MEMORY, TINY_RUN = 2.0, 1.0  # of the tiny base: Python's own memory; a demonstration's files


def main_memory(
    on_cpu: bool, base: BaseWeights, text_encoder: BaseWeights, free: float, share: float, *, may_offload: bool
) -> float:
    """GB of main memory that a run takes.

    Args:
        on_cpu: nothing is on a GPU.
        base: how the transformer is kept.
        text_encoder: how Gemma is kept.
        free: GB free on the GPU.
        share: GB of the GPU that are left to activations.
        may_offload: blocks may wait in main memory.
    """
    if on_cpu:
        return ON_THE_CPU
    through = base != "bf16" or (may_offload and free - share < TRANSFORMER)
    return max(CONNECTORS, TRANSFORMER if through else 0.0, GEMMA if text_encoder != "bf16" else 0.0)

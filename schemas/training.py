"""Parameters of a training and its previews: everything besides the data that changes the adapter."""

from pydantic import Field

from schemas.media import Bucket, Frozen
from schemas.plan import Plan
from schemas.settings import BaseWeights, Compile, settings

SEED = 42


class Training(Frozen):
    """Parameters that change the adapter besides the data: size, schedule, seed, and the samples in a step."""

    rank: int
    steps: int
    learning_rate: float
    seed: int = SEED
    devices: int = Field(default_factory=lambda: settings().devices)  # each learns from a sample of its own per step
    base_weights: BaseWeights = Field(default_factory=lambda: settings().base_weights)
    compile: Compile = Field(default_factory=lambda: settings().compile)
    deterministic: bool = Field(default_factory=lambda: settings().deterministic)


class Previewing(Frozen):
    """Parameters of the previews that are generated between optimisation steps."""

    plan: Plan
    bucket: Bucket
    stg_scale: float

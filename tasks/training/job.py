"""The training process's messages: a JSON file in, events as one JSON object a line out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from schemas.media import Bucket, Frozen, Modality
from schemas.plan import Plan
from schemas.settings import BaseWeights, Compile, OffloadedBlocks
from tasks.manifests import EncodedSample
from tasks.storage.store import BROUGHT, Artifact

FIRST_PREVIEW_INTERVAL = 100
MOST_PREVIEWS_BETWEEN = 10


class PreviewJob(Frozen):
    """Previews to generate between optimisation steps."""

    samples: tuple[EncodedSample, ...]
    plan: Plan
    negative: Artifact  # text features that previews are guided away from
    bucket: Bucket
    stg_scale: float


class Job(Frozen):
    """One training."""

    key: str  # of everything that the adapter depends on; a checkpoint with another key is not ours
    base: str
    device: str
    dtype: str = "torch.float32"  # of the frozen base
    devices: int = 1
    base_weights: BaseWeights = "bf16"
    offload_blocks: OffloadedBlocks = 0
    compile: Compile = "off"
    deterministic: bool = True
    recompute_all: bool = False  # after the device ran out of memory
    rank: int
    steps: int
    learning_rate: float
    seed: int
    samples: tuple[EncodedSample, ...]
    plans: tuple[Plan, ...]  # of the samples
    previews: PreviewJob | None
    files: dict[str, Path]  # where the artifacts of all samples lie on this machine, by address
    folder: Path  # of checkpoints and results; a job that is given the same folder again goes on where it was
    shared: bool = False  # its checkpoints are also kept where other machines reach them

    @classmethod
    def of(cls, written: str) -> "Job":
        """The job of a JSON text. Its files were brought to this machine; the store is not asked for them again."""
        return cls.model_validate_json(written, context=BROUGHT)

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact lies on this machine."""
        return self.files[artifact.address]


class Prepared(Frozen):
    """Event: one step was taken for trial, on the longest sample; the adapter is as it was."""

    event: Literal["prepared"] = "prepared"
    tokens: int
    layers: int
    recomputed: int  # of these layers, in the backward pass, to save memory
    peak_bytes: int | None  # of the device, if it counts them, when all layers are recomputed
    free_bytes: int | None  # beside that
    attention: str = "native"  # by diffusers' name
    compiled: bool = False
    remark: str = ""  # why not, where it was wanted


class Started(Frozen):
    """Event: the model is loaded and its memory suffices; steps follow."""

    event: Literal["started"] = "started"
    step: int
    device: str
    trained_parameters: int


class Stepped(Frozen):
    """Event: one optimisation step was made."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # else the other side could not read what is not finite

    event: Literal["step"] = "step"
    step: int
    loss: float
    losses: dict[Modality, float]
    gradient_norm: float  # before clipping; the update was left out where it is not finite
    tokens_per_second: float  # of all devices, since the last report, previews and checkpoints left out


class Saved(Frozen):
    """Event: a checkpoint was written."""

    event: Literal["saved"] = "saved"
    step: int


class Beat(Frozen):
    """Event: a heartbeat between events that take long to come."""

    event: Literal["beat"] = "beat"


class Previewed(Frozen):
    """Event: a preview's latents were written."""

    event: Literal["preview"] = "preview"
    step: int
    sample: int
    path: Path


class Finished(Frozen):
    """Event: the adapter was written."""

    event: Literal["finished"] = "finished"
    adapter: Path
    losses: Path
    previews: tuple[Previewed, ...]
    skipped: tuple[int, ...] = ()  # steps whose update was not finite and was left out


class Failed(Frozen):
    """Event: the training cannot go on, for a reason that has a class of its own in schemas/errors.py."""

    event: Literal["failed"] = "failed"
    error: str
    message: str


class Retrying(Frozen):
    """Event: the device ran out of memory, failed or fell silent; the training goes on from its checkpoint."""

    event: Literal["retrying"] = "retrying"
    message: str


Event = Annotated[
    Prepared | Started | Stepped | Saved | Beat | Previewed | Finished | Failed | Retrying,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def preview_steps(steps: int) -> tuple[int, ...]:
    """Steps with previews: before the first step, at most ten times in between, and at the end."""
    interval = max(FIRST_PREVIEW_INTERVAL, -(-steps // MOST_PREVIEWS_BETWEEN))
    return (0, *range(interval, steps, interval), steps)

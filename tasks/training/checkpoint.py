"""A training's one checkpoint: replaced in one step, and checked against the job before it is used."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from schemas.errors import CheckpointMismatch
from tasks.storage.durable import on_disk
from tasks.training.job import Job

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

Identity = dict[str, Any]
COMPARED = ("key", "rank", "steps", "learning_rate", "seed", "devices", "base_weights")
STEP = "last.step"
DAMAGED = (OSError, RuntimeError, EOFError, KeyError, AttributeError, pickle.UnpicklingError)


def checkpoint_of(folder: Path) -> Path:
    """The checkpoint's path: adapter, optimiser, schedule, random states, losses, data position; never the base."""
    return folder / "last.ckpt"


def identity_of(job: Job, module: "LightningModule") -> Identity:
    """Identity of a checkpoint: the job it must have been made for, in words that an error message can show."""
    shapes = [list(weight.shape) for weight in module.state_dict().values()]
    return {**{name: getattr(job, name) for name in COMPARED}, "shapes": shapes}


def step_of(folder: Path) -> int:
    """The step after which a folder's checkpoint was written; 0 where there is none, or the file has no step."""
    try:
        return int((folder / STEP).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def set_step(folder: Path, step: int) -> None:
    """Record the step after which the folder's checkpoint was written."""
    (folder / STEP).write_text(str(step))
    on_disk(folder / STEP)
    on_disk(folder)


def copy_of(folder: Path, step: int) -> Path:
    """Path of a second name of one step's checkpoint, for sharing while newer ones replace the first."""
    return folder / f"{step:05}.copy"


def write(trainer: "Trainer", folder: Path, *, copy: bool = False) -> None:
    """Replace the checkpoint: killed at any moment, the old or the new one is whole, and nothing else stays.

    Every device's process calls this; Lightning lets the first one write.

    Args:
        copy: leave the checkpoint under `copy_of`, too.
    """
    final = checkpoint_of(folder)
    part = final.with_suffix(".part")
    trainer.save_checkpoint(part, weights_only=False)  # Lightning's word for "the adapter alone"; it holds no code
    if trainer.is_global_zero:
        on_disk(part)
        part.replace(final)
        set_step(folder, trainer.global_step)
        if copy:
            copy_of(folder, trainer.global_step).unlink(missing_ok=True)
            copy_of(folder, trainer.global_step).hardlink_to(final)


def to_go_on_from(folder: Path, identity: Identity) -> Path | None:
    """The checkpoint to resume this very job from, or None where there is none yet.

    Raises:
        CheckpointMismatch: it is another job's, or cannot be read. Loaded without running any code that it holds.
    """
    path = checkpoint_of(folder)
    if not path.exists():
        return None
    try:
        held: Identity = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["identity"]
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        _refuse(path, f"cannot be read ({reason})")
    if differing := [name for name in identity if held.get(name) != identity[name]]:
        told = ", ".join(
            f"{name} {_short(held.get(name))} where the job has {_short(identity[name])}" for name in differing
        )
        _refuse(path, f"is of another training: {told}")
    return path


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CheckpointMismatch(f"the checkpoint {path} {reason}; remove {path.parent} to train anew")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def hash_of(preview: Path) -> Path:
    """Path of the file with a preview's content hash; written after the preview."""
    return preview.with_suffix(".sha256")

"""One training step of an adapter, and the LightningModule around it.

Lightning sees the adapter alone: the frozen base is neither moved, nor wrapped, nor checkpointed by it, and weights of
an absent stream may stay on the meta device.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from models.ltx2.adapter import adapter_parameters
from models.ltx2.transformer import BlockRun, run_block, velocities
from models.noise import generator_of
from models.training_inputs import Streams, training_loss

CLIP_NORM = 1.0
LAST_RATE = 0.1  # of the learning rate, reached on the last step
LONGEST_WAIT = timedelta(hours=2)  # of the other devices, while the first one generates previews


@dataclass(frozen=True)
class Schedule:
    """Training schedule: steps, learning rate, seed and batch size.

    `batch` is the number of samples that one device learns from in one step.
    N devices at batch 1 do the same as one device at batch N: as many steps, N samples in each, the mean of their
    gradients (equal up to the order in which the gradients are added).
    """

    steps: int
    learning_rate: float
    seed: int = 42
    batch: int = 1


def sample_index(draw: int, samples: int, seed: int) -> int:
    """Index of the sample for the `draw`-th draw: every epoch goes through all samples in an order of its own."""
    epoch, place = divmod(draw, samples)
    return _order(epoch, samples, seed)[place]


@lru_cache(maxsize=2)
def _order(epoch: int, samples: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(samples, generator=generator_of("order", seed, epoch)).tolist()
    return order


class LoraTraining(LightningModule):  # type: ignore[misc]  # Lightning is not typed here
    """LightningModule that trains the adapter of `add_adapter` on the batches of a `models.engine.batches.Feed`.

    Measurements of a step stay on the device: reading them waits for the device, so they should be read seldom.
    Backward pass and update are called here ("manual optimisation"): Lightning's automatic one costs a small model 3 %.
    """

    automatic_optimization = False

    def __init__(self, transformer: nn.Module, schedule: Schedule, *, recomputed: int = 0) -> None:
        super().__init__()
        self.base = (transformer,)  # in a tuple: not a submodule
        self.schedule, self.recomputed = schedule, recomputed
        self.run_block: BlockRun = run_block
        self.adapter = nn.ParameterList(adapter_parameters(transformer))
        self.measured: Measured | None = None  # of the last step

    def losses(self, streams: Streams) -> Tensor:
        """The loss of each modality, [number of modalities], in the plan's order."""
        inputs = {modality: stream.input for modality, stream in streams.items()}
        losses = training_loss(
            velocities(self.base[0], inputs, recomputed=self.recomputed, run=self.run_block), streams
        )
        return torch.stack([each.mean() for each in losses.values()])

    def training_step(self, batch: tuple[Streams, ...], batch_idx: int) -> None:
        """Learn from every sample of a batch, each on its own: forward, backward, clip, update."""
        optimizer, lr_scheduler = self.optimizers(), self.lr_schedulers()
        losses = torch.stack([self.losses(streams) for streams in batch]).mean(0)
        tokens = sum(stream.length for streams in batch for stream in streams.values())
        self.zero_grad()  # of the adapter: nothing else is a parameter of this module
        self.manual_backward(losses.sum())
        norm = self.clip()
        # as torch's gradient scaler does: an update that is not finite is left out, and the device is not waited for
        optimizer.optimizer.found_inf = norm.isfinite().logical_not().float()
        optimizer.step()
        lr_scheduler.step()
        self.measured = Measured(tokens * self.trainer.world_size, self._over_devices(losses.detach()), norm)

    def clip(self) -> Tensor:
        """Limit the norm of all gradients to 1; return the norm before."""
        return nn.utils.clip_grad_norm_(self.adapter.parameters(), CLIP_NORM).detach()

    def _over_devices(self, losses: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(losses)
            losses = losses / self.trainer.world_size
        return losses

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW as torch has it, fused (one kernel, not ten); the rate falls linearly to a tenth over all steps."""
        optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.schedule.learning_rate, fused=True)
        lr_scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, total_iters=self.schedule.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}

    def transfer_batch_to_device(self, batch: tuple[Streams, ...], device: torch.device, dataloader_idx: int) -> Any:
        """The batch as it is: the feed has put it on the device; Lightning would copy every dataclass."""
        return batch


@dataclass(frozen=True)
class Measured:
    """Measurements of one optimisation step, over all devices; the tensors are still being computed."""

    tokens: int
    losses: Tensor  # [number of modalities]
    gradient_norm: Tensor  # before clipping; where it is not finite, nothing was updated


def trainer_options(
    schedule: Schedule, device: torch.device, devices: int = 1, *, deterministic: bool = True
) -> dict[str, Any]:
    """Arguments of a quiet `lightning.Trainer`: no bar, no summary, no files but the checkpoints that callers save.

    Deterministic unless told otherwise, so that a resumed run gives the same bytes on a GPU, too.
    """
    one = [device.index or 0] if device.type == "cuda" else 1
    return {
        "max_steps": schedule.steps,
        "max_epochs": -1,
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": one if devices == 1 else devices,
        "strategy": "auto" if devices == 1 else DDPStrategy(timeout=LONGEST_WAIT),
        "deterministic": deterministic,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # the feed shares samples out
    }

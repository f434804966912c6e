"""What a training says while it goes: its steps, its checkpoints, its previews."""

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.adapter import adapter_parameters, export, save
from models.randomness import random_states, set_random_states
from models.sampler import Guidance, draw_noise, sample, stg_block_of
from models.streams import TrainingSample
from models.trainer import LoraTraining, Measured
from schemas.media import Modality
from tasks import checkpoint
from tasks.job import Event, Finished, Job, JobSample, Previewed, PreviewJob, Started, Stepped, preview_steps

CHECKPOINTS = 20  # per training, at most
SECONDS_BETWEEN_REPORTS = 0.5  # reading a loss waits for the device, so it is not done at every step

Say = Callable[[Event], None]


def read_sample(job: JobSample) -> TrainingSample:
    """A sample's latents; each sound is cut to the steps that its own clip is long."""
    latents = {(track.role, track.modality): load_file(track.path)["latent"][: track.steps] for track in job.latents}
    rates = {track.role: track.fps for track in job.latents if track.modality == "video"}
    return TrainingSample(
        name=job.name,
        plan=job.plan,
        fps=job.fps,
        latents=latents,
        context=_read_text(job, job),
        reference_fps=rates.get("reference"),
    )


def _read_text(job: JobSample | PreviewJob, of: JobSample) -> dict[Modality, Tensor]:
    """Text features of the modalities that the plan generates; of previews, the negative prompt's."""
    features = load_file(job.context if isinstance(job, JobSample) else job.negative)
    return {modality: features[modality] for modality in of.plan.modalities}


class Reporter(Callback):  # type: ignore[misc]  # Lightning is not typed here
    """Steps, checkpoints and previews of a training, told as they happen; of several processes the first one tells."""

    def __init__(
        self, job: Job, transformer: nn.Module, device: torch.device, say: Say, identity: checkpoint.Identity
    ) -> None:
        self.job, self.transformer, self.device, self.say, self.identity = job, transformer, device, say, identity
        self.losses: dict[str, list[float]] = {modality: [] for modality in job.samples[0].plan.modalities}
        self.unread: list[tuple[int, Measured]] = []
        self.reported = time.monotonic()
        self.paused = 0.0  # seconds since then that went into checkpoints and previews
        self.previews = set(preview_steps(job.steps)) if job.previews else set()
        self.random: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        told = {"losses": {name: list(values) for name, values in self.losses.items()}, "random": random_states()}
        checkpoint.update(identity=self.identity, told=told)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.losses, self.random = checkpoint["told"]["losses"], checkpoint["told"]["random"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.random is not None:
            set_random_states(self.random)
        trained = sum(parameter.numel() for parameter in adapter_parameters(self.transformer))
        if trainer.is_global_zero:
            self.say(Started(step=trainer.global_step, device=str(self.device), trained_parameters=trained))
            self._preview(trainer.global_step)
        self.reported, self.paused = time.monotonic(), 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        assert isinstance(pl_module, LoraTraining)
        assert pl_module.measured is not None
        self.unread.append((step, pl_module.measured))
        saved = step % max(1, self.job.steps // CHECKPOINTS) == 0 or step == self.job.steps
        if saved or (trainer.is_global_zero and time.monotonic() - self.reported > SECONDS_BETWEEN_REPORTS):
            self._report(aloud=trainer.is_global_zero)
        began = time.monotonic()
        if saved:
            checkpoint.write(trainer, self.job.folder)
        if trainer.is_global_zero:
            self._preview(step)
        self.paused += time.monotonic() - began

    def finish(self, metadata: dict[str, str]) -> Finished:
        """Write the adapter and its losses."""
        adapter, losses = self.job.folder / "lora.safetensors", self.job.folder / "losses.json"
        save(export(self.transformer), adapter, metadata)
        losses.write_text(json.dumps(self.losses))
        previews = [self._previewed(step, index) for step in sorted(self.previews) for index in self._indices()]
        return Finished(adapter=adapter, losses=losses, previews=tuple(previews))

    def _report(self, *, aloud: bool) -> None:
        """Read what the steps since the last report measured, which waits for the device."""
        rows = [(step, measured.losses.tolist(), measured.gradient_norm.item()) for step, measured in self.unread]
        now = time.monotonic()
        tokens = sum(measured.tokens for _, measured in self.unread)
        rate = tokens / max(now - self.reported - self.paused, 1e-9)
        for step, losses, norm in rows:
            values = dict(zip(self.losses, losses, strict=True))
            for name, value in values.items():
                self.losses[name].append(value)
            if aloud:
                told = Stepped(step=step, loss=sum(losses), losses=values, gradient_norm=norm, tokens_per_second=rate)
                self.say(told)
        self.unread.clear()
        self.reported, self.paused = now, 0.0

    def _preview(self, step: int) -> None:
        if step not in self.previews or self.job.previews is None:
            return
        for index in self._indices():
            previewed = self._previewed(step, index)
            if not previewed.path.exists():  # made before an interruption
                latents = preview(self.transformer, self.job.previews, index, self.job.seed)
                previewed.path.parent.mkdir(exist_ok=True)
                part = previewed.path.with_suffix(".part")
                save_file(latents, part)
                part.replace(previewed.path)
            self.say(previewed)

    def _indices(self) -> range:
        return range(len(self.job.previews.samples) if self.job.previews else 0)

    def _previewed(self, step: int, index: int) -> Previewed:
        return Previewed(step=step, sample=index, path=self.job.folder / "previews" / f"{step:05}-{index}.safetensors")


def preview(transformer: nn.Module, job: PreviewJob, index: int, seed: int) -> dict[str, Tensor]:
    """Latents of one preview by modality; draws from a generator of its own and so leaves the training as it is."""
    given = read_sample(job.samples[index])
    layers = len(list(transformer.get_submodule("transformer_blocks").children()))
    latents = sample(
        transformer,
        given.plan,
        job.bucket,
        given=given.latents,
        positive=given.context,
        negative=_read_text(job, job.samples[index]),
        guidance=Guidance(stg=job.stg_scale, stg_block=stg_block_of(layers)),
        noise=draw_noise(given.plan, job.bucket, seed),
    )
    return {str(modality): latent.contiguous() for modality, latent in latents.items()}

"""Lightning callback of a training: reports steps, checkpoints and previews as events."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.engine.rng import random_states, set_random_states
from models.engine.trainer import LoraTraining, Measured
from models.ltx2.adapter import adapter_parameters, export, save
from models.ltx2.spec import stg_block_of
from models.sampler import Guidance, draw_noise, sample
from models.training_inputs import TrainingSample
from schemas.errors import TrainingDiverged
from schemas.media import Modality
from schemas.plan import Plan
from tasks.manifests import EncodedSample
from tasks.storage.durable import appearing
from tasks.storage.store import Artifact, file_sha256
from tasks.training import checkpoint
from tasks.training.checkpoint import hash_of
from tasks.training.job import (
    Beat,
    Event,
    Finished,
    Job,
    Previewed,
    Saved,
    Started,
    Stepped,
    preview_steps,
)

CHECKPOINTS = 20  # per training, at most
MOST_SKIPPED = 10  # updates in a row that are not finite, before the training is given up
SECONDS_BETWEEN_BEATS = 5.0
SECONDS_BETWEEN_REPORTS = 0.5  # reading a loss waits for the device, so it is not done at every step

Say = Callable[[Event], None]


def read_sample(job: Job, sample: EncodedSample, plan: Plan) -> TrainingSample:
    """A sample's latents; each sound is cut to the number of steps of its own clip."""
    latents = {(f.role, f.modality): load_file(job.path(f.artifact))["latent"][: f.steps] for f in sample.latents}
    rates = {file.role: file.fps for file in sample.latents if file.modality == "video"}
    return TrainingSample(
        name=sample.name,
        plan=plan,
        fps=sample.fps,
        latents=latents,
        context=_read_text(job, sample.context, plan),
        reference_fps=rates.get("reference"),
    )


def read_samples(job: Job) -> Iterator[TrainingSample]:
    """All samples of a training, one after the other."""
    return (read_sample(job, sample, plan) for sample, plan in zip(job.samples, job.plans, strict=True))


def _read_text(job: Job, context: Artifact, plan: Plan) -> dict[Modality, Tensor]:
    """Text features of the modalities that the plan generates."""
    features = load_file(job.path(context))
    return {modality: features[modality] for modality in plan.modalities}


class Voice:
    """Event sender: reports events to the parent, and heartbeats in between."""

    def __init__(self, say: Say) -> None:
        self._say, self.heard = say, time.monotonic()

    def say(self, event: Event) -> None:
        self._say(event)
        self.heard = time.monotonic()

    def beat(self) -> None:
        """Send a heartbeat when one is due; called often by long operations, because silence is taken for a hang."""
        if time.monotonic() - self.heard > SECONDS_BETWEEN_BEATS:
            self.say(Beat())


class Reporter(Callback):  # type: ignore[misc]  # Lightning is not typed here
    """Callback for steps, checkpoints and previews of a training; of several processes the first one reports."""

    def __init__(
        self, job: Job, transformer: nn.Module, device: torch.device, voice: "Voice", identity: checkpoint.Identity
    ) -> None:
        self.job, self.transformer, self.device, self.identity = job, transformer, device, identity
        self.say, self.beat = voice.say, voice.beat
        self.losses: dict[str, list[float]] = {modality: [] for modality in job.plans[0].modalities}
        self.unread: list[tuple[int, Measured]] = []
        self.reported = time.monotonic()
        self.paused = 0.0  # seconds since then that went into checkpoints and previews
        self.previews = set(preview_steps(job.steps)) if job.previews else set()
        self.random: dict[str, Any] | None = None
        self.done = 0  # steps of the checkpoint that it goes on from
        self.skipped: list[int] = []  # steps whose update was not finite

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        losses = {name: list(values) for name, values in self.losses.items()}
        told = {"losses": losses, "skipped": list(self.skipped), "random": random_states()}
        checkpoint.update(identity=self.identity, told=told)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        told = checkpoint["told"]
        self.losses, self.skipped, self.random = told["losses"], told["skipped"], told["random"]
        self.done = int(checkpoint["global_step"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.done == self.job.steps and trainer.is_global_zero:  # its training does not start: only this is left
            self._preview(self.done)

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
            checkpoint.write(trainer, self.job.folder, copy=self.job.shared)
        if trainer.is_global_zero:
            if saved:
                self.say(Saved(step=step))
            self._preview(step)
        self.paused += time.monotonic() - began

    def finish(self, metadata: dict[str, str]) -> Finished:
        """Write the adapter and its losses.

        Raises:
            TrainingDiverged: the adapter is not finite.
        """
        adapter, losses = self.job.folder / "lora.safetensors", self.job.folder / "losses.json"
        tensors = export(self.transformer)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise self._diverged(self.job.steps, "the adapter")
        save(tensors, adapter, metadata)
        losses.write_text(json.dumps({name: list(map(_or_none, values)) for name, values in self.losses.items()}))
        wanted = [self._previewed(step, index) for step in sorted(self.previews) for index in self._indices()]
        previews = tuple(each for each in wanted if _is_whole(each.path))  # one that was damaged later is left out
        return Finished(adapter=adapter, losses=losses, previews=previews, skipped=tuple(self.skipped))

    def _report(self, *, aloud: bool) -> None:
        """Read the measurements of the steps since the last report, which waits for the device."""
        rows = [(step, measured.losses.tolist(), measured.gradient_norm.item()) for step, measured in self.unread]
        now = time.monotonic()
        tokens = sum(measured.tokens for _, measured in self.unread)
        rate = tokens / max(now - self.reported - self.paused, 1e-9)
        for step, losses, norm in rows:
            values = dict(zip(self.losses, losses, strict=True))
            for name, value in values.items():
                self.losses[name].append(value)
            if not math.isfinite(norm):
                self.skipped.append(step)
            if aloud:
                told = Stepped(step=step, loss=sum(losses), losses=values, gradient_norm=norm, tokens_per_second=rate)
                self.say(told)
            self._check_progress(step)
        self.unread.clear()
        self.reported, self.paused = now, 0.0

    def _check_progress(self, step: int) -> None:
        """End a training that learns nothing any more.

        Raises:
            TrainingDiverged: all of its last updates were left out.
        """
        if self.skipped[-MOST_SKIPPED:] == list(range(step - MOST_SKIPPED + 1, step + 1)):
            raise self._diverged(step, f"the losses or gradients of the last {MOST_SKIPPED} steps")

    def _diverged(self, step: int, what: str) -> TrainingDiverged:
        advice = f"lower learning_rate, which is {self.job.learning_rate:g}"
        if len(self.skipped) == step:
            advice = "no step of it was, so look at the base model's weights and at the clips first"
        return TrainingDiverged(f"the training diverged: at step {step} {what} are not finite; {advice}")

    def _preview(self, step: int) -> None:
        if step not in self.previews or self.job.previews is None:
            return
        for index in self._indices():
            previewed = self._previewed(step, index)
            if not _is_whole(previewed.path):  # else it was made before an interruption
                latents = preview(self.transformer, self.job, index, self.beat)
                if not all(bool(latent.isfinite().all()) for latent in latents.values()):
                    raise self._diverged(step, "the numbers of a preview")
                with appearing(previewed.path) as part:
                    save_file(latents, part)
                with appearing(hash_of(previewed.path)) as part:
                    part.write_text(file_sha256(previewed.path))
            self.say(previewed)

    def _indices(self) -> range:
        return range(len(self.job.previews.samples) if self.job.previews else 0)

    def _previewed(self, step: int, index: int) -> Previewed:
        return Previewed(step=step, sample=index, path=self.job.folder / "previews" / f"{step:05}-{index}.safetensors")


def _or_none(value: float) -> float | None:
    """The number, or None where it is not finite: JSON has no word for that."""
    return value if math.isfinite(value) else None


def _is_whole(path: Path) -> bool:
    """Whether a preview is there with the content that was written."""
    try:
        return hash_of(path).read_text() == file_sha256(path)
    except FileNotFoundError:
        return False


def preview(transformer: nn.Module, job: Job, index: int, beat: Callable[[], None]) -> dict[str, Tensor]:
    """Latents of one preview by modality; the training's random state stays as it is."""
    asked = job.previews
    assert asked
    given = read_sample(job, asked.samples[index], asked.plan)
    layers = len(list(transformer.get_submodule("transformer_blocks").children()))
    latents = sample(
        transformer,
        asked.plan,
        asked.bucket,
        given=given.latents,
        positive=given.context,
        negative=_read_text(job, asked.negative, asked.plan),
        guidance=Guidance(stg=asked.stg_scale, stg_block=stg_block_of(layers)),
        noise=draw_noise(asked.plan, asked.bucket, job.seed),
        beat=beat,
    )
    return {str(modality): latent.contiguous() for modality, latent in latents.items()}

"""The training process: `python -m tasks.training JOB.json`. Says what it does as JSON lines on stdout.

It ends with its parent: the parent holds the other end of stdin.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import base as base_model
from models.adapter import adapter_parameters, add_adapter, export, lora_metadata, save
from models.sampler import Guidance, draw_noise, sample, stg_block_of
from models.trainer import LoraTraining, Schedule, TrainingSample, trainer_options
from schemas.media import Modality
from tasks.job import Event, Finished, Job, JobSample, Previewed, PreviewJob, Started, Stepped, preview_steps

CHECKPOINTS = 20  # per training, at most
SECONDS_BETWEEN_REPORTS = 0.5  # reading a loss waits for the device, so it is not done at every step

Say = Callable[[Event], None]


def run(job: Job, say: Say) -> None:
    """Train by the job, going on from the folder's last checkpoint if there is one."""
    device = base_model.pick_device(job.device)
    plan = job.samples[0].plan
    transformer = base_model.load_transformer(job.base, plan.modalities, device, base_model.pick_dtype(device))
    add_adapter(transformer, job.rank, plan.modalities, job.seed)
    schedule = Schedule(steps=job.steps, learning_rate=job.learning_rate, seed=job.seed)
    samples = [read_sample(each) for each in job.samples]
    module = LoraTraining(transformer, samples, schedule, checkpointing=device.type == "cuda")
    reporter = Reporter(job, transformer, device, say)
    trainer = Trainer(**trainer_options(schedule, device), callbacks=[reporter])
    last = checkpoint_of(job.folder)
    trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    say(reporter.finish(lora_metadata(plan)))


def checkpoint_of(folder: Path) -> Path:
    """Adapter, optimiser, schedule, losses and position in the data; never the base."""
    return folder / "last.ckpt"


def read_sample(job: JobSample) -> TrainingSample:
    """A sample's latents; sound is cut to the steps that its clip is long."""
    tracks = {(track.role, track.modality): load_file(track.path)["latent"] for track in job.latents}
    latents = {key: latent[: job.audio_steps] if key[1] == "audio" else latent for key, latent in tracks.items()}
    return TrainingSample(
        name=job.name, plan=job.plan, fps=job.fps, latents=latents, context=read_context(job.context, job)
    )


def read_context(path: Path, job: JobSample) -> dict[Modality, Tensor]:
    """Text features of the modalities that the plan generates."""
    features = load_file(path)
    return {modality: features[modality] for modality in job.plan.modalities}


class Reporter(Callback):  # type: ignore[misc]  # Lightning is not typed here
    """Steps, checkpoints and previews of a training, told as they happen."""

    def __init__(self, job: Job, transformer: nn.Module, device: torch.device, say: Say) -> None:
        self.job, self.transformer, self.device, self.say = job, transformer, device, say
        self.losses: dict[str, list[float]] = {modality: [] for modality in job.samples[0].plan.modalities}
        self.unread: list[tuple[int, dict[str, Tensor]]] = []
        self.reported = time.monotonic()
        self.previews = set(preview_steps(job.steps)) if job.previews else set()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": {name: list(values) for name, values in self.losses.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = state_dict["losses"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trained = sum(parameter.numel() for parameter in adapter_parameters(self.transformer))
        self.say(Started(step=trainer.global_step, device=str(self.device), trained_parameters=trained))
        self._preview(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        metrics = trainer.callback_metrics
        self.unread.append((step, {name: metrics[f"loss_{name}"].detach().clone() for name in self.losses}))
        saved = step % max(1, self.job.steps // CHECKPOINTS) == 0 or step == self.job.steps
        if saved or time.monotonic() - self.reported > SECONDS_BETWEEN_REPORTS:
            self._report()
        if saved:
            self._save(trainer)
        self._preview(step)

    def finish(self, metadata: dict[str, str]) -> Finished:
        """Write the adapter and its losses."""
        adapter, losses = self.job.folder / "lora.safetensors", self.job.folder / "losses.json"
        save(export(self.transformer), adapter, metadata)
        losses.write_text(json.dumps(self.losses))
        previews = [self._previewed(step, index) for step in sorted(self.previews) for index in self._indices()]
        return Finished(adapter=adapter, losses=losses, previews=tuple(previews))

    def _report(self) -> None:
        for step, losses in self.unread:
            values = {name: float(loss) for name, loss in losses.items()}
            for name, value in values.items():
                self.losses[name].append(value)
            self.say(Stepped(step=step, loss=sum(values.values()), losses=values))
        self.unread.clear()
        self.reported = time.monotonic()

    def _save(self, trainer: Trainer) -> None:
        """A checkpoint replaces the one before in one step: killed here, one of the two is whole."""
        final = checkpoint_of(self.job.folder)
        part = final.with_suffix(".part")
        trainer.save_checkpoint(part, weights_only=False)
        part.replace(final)

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
        negative=read_context(job.negative, job.samples[index]),
        guidance=Guidance(stg=job.stg_scale, stg_block=stg_block_of(layers)),
        noise=draw_noise(given.plan, job.bucket, seed),
    )
    return {str(modality): latent.contiguous() for modality, latent in latents.items()}


def end_with_parent() -> None:
    """Wait for the end of stdin, which comes when the parent ends, however it ends."""
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a lock held here would stop the interpreter from ending
        pass
    os._exit(1)


def main() -> None:
    """Entry point of the process."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    run(job, lambda event: print(event.model_dump_json(), flush=True))


if __name__ == "__main__":
    main()

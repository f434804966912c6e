"""Latents -> adapter, in a process of its own: its memory and its crashes stay out of the flow."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import assert_never

from prefect import get_run_logger
from pydantic import Field

from schemas.media import Bucket, Frozen
from schemas.plan import Plan
from schemas.settings import BaseWeights, Compile, settings
from tasks.base_model import Base, Precision
from tasks.encode import EncodedSample, Latents
from tasks.reports.run_page import loss_card
from tasks.step import Progress, step
from tasks.storage.durable import make_folder
from tasks.storage.store import Artifact, key_of, store
from tasks.training.job import (
    Beat,
    Event,
    Failed,
    Finished,
    Job,
    JobSample,
    LatentPath,
    Prepared,
    Previewed,
    PreviewJob,
    Retrying,
    Saved,
    Started,
    Stepped,
)
from tasks.training.process import train_in_child
from tasks.training.sharing import Sharing

VERSION = 4  # of what the training process makes of its job: raise it when an adapter changes
SEED = 42
LOGGED_STEPS = 20


class Training(Frozen):
    """What changes the adapter besides the data: its size, its schedule, its seed, and the samples in a step."""

    rank: int
    steps: int
    learning_rate: float
    seed: int = SEED
    devices: int = Field(default_factory=lambda: settings().devices)  # each learns from a sample of its own per step
    base_weights: BaseWeights = Field(default_factory=lambda: settings().base_weights)
    compile: Compile = Field(default_factory=lambda: settings().compile)
    deterministic: bool = Field(default_factory=lambda: settings().deterministic)


class Previewing(Frozen):
    """How previews are generated between optimisation steps."""

    plan: Plan
    bucket: Bucket
    stg_scale: float


class PreviewLatents(Frozen):
    """The latents of one preview: after which step, of which validation sample."""

    step: int
    sample: int
    latents: Artifact


class Adapter(Frozen):
    """A finished training."""

    weights: Artifact
    previews: tuple[PreviewLatents, ...]
    losses: Artifact  # JSON: {modality: [loss of every step]}


def train_adapter(
    latents: Latents,
    plans: tuple[Plan, ...],
    training: Training,
    previewing: Previewing,
    model: Base,
    precision: Precision,
    on_event: Callable[[Event], None],
) -> Adapter:
    """Train on samples[i] by plans[i].

    Raises:
        TrainingFailed: the process ended with an error, whose last lines are in the message.
        TrainingInterrupted: it was killed; it goes on from its checkpoint when tried again.
        MachineNotReady: it does not fit the device, or its checkpoint is not its own.
    """
    key = key_of(VERSION, latents, plans, training, previewing, model.weights("transformer"), precision.dtype)
    with _workplace(key) as folder:
        if done := _finished(key):
            return done
        sharing = Sharing(key, folder)
        if shared := Sharing.needed():
            sharing.restore()
        files = _Files(store().all_local(artifacts_of(latents), folder / "latents"))
        job = Job(
            key=key,
            base=model.location,
            device=settings().device,
            dtype=precision.dtype,
            offload_blocks=settings().offload_blocks,
            samples=tuple(files.sample(s, p) for s, p in zip(latents.samples, plans, strict=True)),
            previews=files.previews(latents, previewing),
            folder=folder,
            shared=shared,
            **training.model_dump(),
        )
        adapter = _collect(key, _run_shared(job, sharing, on_event) if shared else train_in_child(job, on_event))
        if shared:
            sharing.remove()
        shutil.rmtree(folder)
        return adapter


def _run_shared(job: Job, sharing: Sharing, on_event: Callable[[Event], None]) -> list[Event]:
    """Train, and keep the newest checkpoint where other machines reach it."""

    def hear(event: Event) -> None:
        sharing.hear(event)
        on_event(event)

    with sharing.sending():
        return train_in_child(job, hear)


def artifacts_of(latents: Latents) -> Iterator[Artifact]:
    """All that a training reads."""
    for sample in (*latents.samples, *latents.previews):
        yield from (file.artifact for file in sample.latents)
        yield sample.context
    if latents.negative:
        yield latents.negative


def _finished(key: str) -> Adapter | None:
    """The same training, if it has been done before."""
    manifest = store().read_text(f"adapters/{key}.manifest")
    try:
        return Adapter.model_validate_json(manifest) if manifest else None
    except ValueError:  # an artifact of it is gone
        return None


@contextmanager
def _workplace(key: str) -> Iterator[Path]:
    """The training's folder, ours alone: a second run of the same training waits until the first has ended.

    The lock is the kernel's and ends with its holder, however that ends.
    """
    folder = settings().home_folder / "work" / key
    while True:
        make_folder(folder)
        handle = os.open(folder, os.O_RDONLY)
        try:
            flock(handle, LOCK_EX)
            if folder.exists() and os.fstat(handle).st_ino == folder.stat().st_ino:  # not removed while we waited
                yield folder
                return
        finally:
            os.close(handle)


class _Files:
    """Artifacts as local files, for as long as the training runs."""

    def __init__(self, paths: Mapping[Artifact, Path]) -> None:
        self.paths = paths

    def sample(self, sample: EncodedSample, plan: Plan) -> JobSample:
        latents = tuple(
            LatentPath(role=f.role, modality=f.modality, path=self.paths[f.artifact], fps=f.fps, steps=f.steps)
            for f in sample.latents
        )
        return JobSample(
            name=sample.name, plan=plan, fps=sample.fps, latents=latents, context=self.paths[sample.context]
        )

    def previews(self, latents: Latents, previewing: Previewing) -> PreviewJob | None:
        if not latents.negative or not latents.previews:
            return None
        return PreviewJob(
            samples=tuple(self.sample(preview, previewing.plan) for preview in latents.previews),
            negative=self.paths[latents.negative],
            bucket=previewing.bucket,
            stg_scale=previewing.stg_scale,
        )


def _collect(key: str, events: list[Event]) -> Adapter:
    """Publish what the process left in its folder."""
    finished = events[-1]
    assert isinstance(finished, Finished)
    previews = [
        PreviewLatents(
            step=p.step,
            sample=p.sample,
            latents=store().publish(p.path, f"adapters/{key}/{p.step:05}-{p.sample}.safetensors"),
        )
        for p in finished.previews
    ]
    adapter = Adapter(
        weights=store().publish(finished.adapter, f"adapters/{key}/lora.safetensors"),
        previews=tuple(previews),
        losses=store().publish(finished.losses, f"adapters/{key}/losses.json"),
    )
    store().write_text(adapter.model_dump_json(), f"adapters/{key}.manifest")
    return adapter


class _Watcher:
    """Shows a training's events on the run's page and in its log."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.progress = Progress("train", "Optimisation steps")
        self.log = get_run_logger()

    def __call__(self, event: Event) -> None:
        match event:
            case Prepared():
                self.log.info(
                    "the longest sample, %d tokens, fits; %d of %d blocks are computed twice to save memory; "
                    "attention: %s; blocks %s",
                    event.tokens,
                    event.recomputed,
                    event.layers,
                    event.attention,
                    "compiled" if event.compiled else "not compiled",
                )
                if event.remark:
                    self.log.warning("the blocks could not be compiled: %s", event.remark)
            case Started():
                self.log.info(
                    "training %d parameters on %s from step %d", event.trained_parameters, event.device, event.step
                )
            case Stepped():
                self.progress(event.step, self.steps)
                if event.step % max(1, self.steps // LOGGED_STEPS) == 0:
                    losses = ", ".join(f"{name} {value:.4f}" for name, value in event.losses.items())
                    self.log.info(
                        "step %d of %d: loss %s, gradient norm %.3g, %.0f tokens/s",
                        event.step,
                        self.steps,
                        losses,
                        event.gradient_norm,
                        event.tokens_per_second,
                    )
            case Saved() | Beat():
                pass
            case Previewed():
                self.log.info("preview %d after step %d", event.sample + 1, event.step)
            case Finished():
                if event.skipped:
                    self.log.warning("%d updates were not finite and were left out", len(event.skipped))
                self.log.info("adapter written")
            case Retrying() | Failed():
                self.log.warning("%s", event.message)
            case _:
                assert_never(event)


@step("train", version=5)
def train(
    latents: Latents,
    plans: tuple[Plan, ...],
    training: Training,
    previewing: Previewing,
    model: Base,
    precision: Precision,
) -> Adapter:
    """Train the adapter, one sample a step, with previews in between."""
    if model.random_weights:
        get_run_logger().warning("the tiny base model has random weights: its previews are noise")
    adapter = train_adapter(latents, plans, training, previewing, model, precision, _Watcher(training.steps))
    with store().local(adapter.losses) as path:
        loss_card(json.loads(path.read_text()))
    return adapter

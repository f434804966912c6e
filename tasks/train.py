"""Train: latents -> adapter, in a process of its own, so that its memory and its crashes stay out of the flow."""

import shutil
from collections.abc import Callable
from pathlib import Path

from schemas.plan import Plan
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks.base_model import Base, Precision
from tasks.manifests import Adapter, Latents, PreviewLatents
from tasks.reports.training_page import TrainingPage
from tasks.step import step
from tasks.storage.store import key_of, store
from tasks.training.job import (
    Event,
    Finished,
    Job,
    PreviewJob,
)
from tasks.training.process import train_in_child
from tasks.training.progress import TrainingProgress
from tasks.training.sharing import Sharing
from tasks.training.workplace import artifacts_of, workplace

VERSION = 4  # of what the training process makes of its job: raise it when an adapter changes


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
    with workplace(key) as folder:
        if done := _finished(key):
            return done
        sharing = Sharing(key, folder)
        if shared := Sharing.needed():
            sharing.restore()
        job = Job(
            key=key,
            base=model.location,
            dtype=precision.dtype,
            samples=latents.samples,
            plans=plans,
            previews=_previews(latents, previewing),
            files=_local(latents, folder),
            folder=folder,
            shared=shared,
            **(training.model_dump() | settings().model_dump(include={"device", "offload_blocks"})),
        )
        adapter = _collect(key, _run_shared(job, sharing, on_event) if shared else train_in_child(job, on_event))
        if shared:
            sharing.remove()
        shutil.rmtree(folder)
        return adapter


def _local(latents: Latents, folder: Path) -> dict[str, Path]:
    """All artifacts that the training reads, as files of this machine, by address."""
    found = store().all_local(artifacts_of(latents), folder / "latents")
    return {artifact.address: path for artifact, path in found.items()}


def _previews(latents: Latents, previewing: Previewing) -> PreviewJob | None:
    if not latents.negative or not latents.previews:
        return None
    return PreviewJob(samples=latents.previews, negative=latents.negative, **dict(previewing))


def _run_shared(job: Job, sharing: Sharing, on_event: Callable[[Event], None]) -> list[Event]:
    """Train, and keep the newest checkpoint in the store, where other machines reach it."""

    def hear(event: Event) -> None:
        sharing.hear(event)
        on_event(event)

    with sharing.sending():
        return train_in_child(job, hear)


def _finished(key: str) -> Adapter | None:
    """The adapter of the same training, if it has been trained before."""
    manifest = store().read_text(f"adapters/{key}.manifest")
    try:
        return Adapter.model_validate_json(manifest) if manifest else None
    except ValueError:  # an artifact of it is gone
        return None


def _collect(key: str, events: list[Event]) -> Adapter:
    """Publish the files that the process left in its folder; return the adapter."""
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


def _told(adapter: Adapter) -> str:
    return f"the LoRA, {adapter.weights.size:,} bytes, and {len(adapter.previews)} previews"


@step("train", version=5, says=_told, device=True)
def train(
    latents: Latents,
    plans: tuple[Plan, ...],
    training: Training,
    previewing: Previewing,
    model: Base,
    precision: Precision,
) -> Adapter:
    """Train the adapter, one sample a step, with previews in between."""
    progress = TrainingProgress(training.steps)
    with TrainingPage(model.location, video=previewing.plan.video is not None) as page:

        def hear(event: Event) -> None:
            progress(event)
            page(event)

        return train_adapter(latents, plans, training, previewing, model, precision, hear)

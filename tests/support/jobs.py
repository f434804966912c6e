"""Jobs for the training process, made of random latents, and the process run within a test."""

from contextlib import suppress

from safetensors.torch import save_file

from schemas.media import Bucket, Picture
from tasks.training.__main__ import run
from tasks.training.job import Job, JobSample, LatentPath, PreviewJob, Stepped
from tests.support.tensors import random_sample, tiny_base

BUCKET = Bucket.of(Picture(width=64, height=64, frames=33, fps=25))


def job_of(plan, folder, *, clips=3, previews=False, **changes):
    """A training of five steps in a folder of its own; previews show its first sample."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = tuple(written(plan, seed, folder) for seed in range(clips))
    shown = PreviewJob(samples=samples[:1], negative=samples[0].context, bucket=BUCKET, stg_scale=1.0)
    job = Job(
        key="this training",
        base=tiny_base(),
        device="cpu",
        rank=4,
        steps=5,
        learning_rate=1e-2,
        seed=7,
        samples=samples,
        previews=shown if previews else None,
        folder=folder,
    )
    return job.model_copy(update=changes)


def written(plan, seed, folder):
    sample = random_sample(plan, seed, f"clip{seed}")
    latents = []
    for (role, modality), latent in sample.latents.items():
        path = folder / f"{seed}-{role}-{modality}.safetensors"
        save_file({"latent": latent.contiguous()}, path)
        latents.append(LatentPath(role=role, modality=modality, path=path, steps=10 if modality == "audio" else None))
    text = folder / f"{seed}-text.safetensors"
    save_file(sample.context, text)
    return JobSample(name=sample.name, plan=plan, fps=25.0, latents=tuple(latents), context=text)


class Interrupted(Exception):
    """Stands for a signal: nothing in the process handles it."""


def events_of(job):
    events = []
    run(job, events.append)
    return events


def interrupted_after(job, step):
    """Run until the step is reported, which is before its checkpoint is written."""

    def say(event):
        if isinstance(event, Stepped) and event.step == step:
            raise Interrupted

    with suppress(Interrupted):
        run(job, say)


def adapter_of(job):
    return (job.folder / "lora.safetensors").read_bytes()

"""Jobs for the training process, made of random latents, and the process run within a test."""

from contextlib import suppress

from safetensors.torch import save_file

from schemas.media import Bucket, Picture
from tasks.manifests import EncodedSample, LatentFile
from tasks.storage.store import BROUGHT, Artifact
from tasks.training.__main__ import run
from tasks.training.job import Job, PreviewJob, Stepped
from tests.support.tensors import random_sample, tiny_base

BUCKET = Bucket.of(Picture(width=64, height=64, frames=33, fps=25))


def job_of(plan, folder, *, clips=3, previews=False, **changes):
    """A training of five steps in a folder of its own; previews show its first sample."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    samples = tuple(written(plan, seed, folder, files) for seed in range(clips))
    negative = samples[0].context
    shown = PreviewJob.model_construct(samples=samples[:1], plan=plan, negative=negative, bucket=BUCKET, stg_scale=1.0)
    job = Job(
        key="this training",
        base=tiny_base(),
        device="cpu",
        rank=4,
        steps=5,
        learning_rate=1e-2,
        seed=7,
        samples=samples,
        plans=(plan,) * clips,
        previews=shown if previews else None,
        files=files,
        folder=folder,
    )
    return job.model_copy(update=changes)


def written(plan, seed, folder, files):
    """An encoded sample of random numbers; its artifacts are files, and in no store."""
    sample = random_sample(plan, seed, f"clip{seed}")

    def kept(tensors, name):
        files[name] = folder / f"{name}.safetensors"
        save_file(tensors, files[name])
        return Artifact.model_validate({"address": name, "sha256": "", "size": 0}, context=BROUGHT)

    latents = tuple(
        LatentFile.model_construct(
            role=role,
            modality=modality,
            artifact=kept({"latent": latent.contiguous()}, f"{seed}-{role}-{modality}"),
            fps=None,
            steps=10 if modality == "audio" else None,
        )
        for (role, modality), latent in sample.latents.items()
    )
    context = kept(sample.context, f"{seed}-text")
    return EncodedSample.model_construct(name=sample.name, prompt="", fps=25.0, latents=latents, context=context)


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

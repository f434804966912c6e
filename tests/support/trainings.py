"""Trainings of random latents through the training step, in the real process or one that pretends."""

import json
import os
import subprocess

from safetensors.torch import save_file

from schemas.media import Bucket, Picture
from schemas.plan import Plan, Prefix, generate
from schemas.training import Previewing, Training
from tasks.base_model import base, precision
from tasks.storage.store import store
from tasks.train import train_adapter
from tasks.training import process as child
from tasks.training.job import Failed, Finished

BUCKET = Bucket.of(Picture(width=64, height=64, frames=9, fps=24))


PLAN = Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2)))


SHORT = Training(rank=8, steps=6, learning_rate=1e-3)


PREVIEWING = Previewing(plan=PLAN, bucket=BUCKET, stg_scale=1.0)


def published(path, **tensors):
    save_file(tensors, path)
    return store().publish(path, f"latents/{path.name}")


def trained(latents, training=SHORT, on_event=lambda event: None):
    return train_adapter(latents, (PLAN,), training, PREVIEWING, base(), precision(), on_event)


def bytes_of(artifact):
    with store().local(artifact) as path:
        return path.read_bytes()


def children():
    command = ["pgrep", "-P", str(os.getpid()), "-f", "tasks.training"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def pretending(monkeypatch, tmp_path, *runs):
    """Training processes that say what they are told to, the n-th run the n-th list of events; returns their jobs."""
    jobs = []

    def command(path):
        jobs.append(json.loads(path.read_text()))
        said = tmp_path / f"said-{len(jobs)}"
        said.write_text("".join(event.model_dump_json() + "\n" for event in runs[len(jobs) - 1]))
        failing = "failed" in said.read_text()
        return ["sh", "-c", f"cat {said}; exit {int(failing)}"]

    monkeypatch.setattr(child, "command", command)
    return jobs


FULL = Failed(error="DeviceFull", message="CUDA out of memory")


def finished(tmp_path):
    for name in ("lora", "losses"):
        (tmp_path / name).write_text("{}")
    return Finished(adapter=tmp_path / "lora", losses=tmp_path / "losses", previews=())

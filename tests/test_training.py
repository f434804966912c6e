"""The training process: told by a job, reports as it goes, ends with its parent, goes on after an interruption."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import TrainingFailed, TrainingInterrupted
from schemas.media import Bucket, Picture
from schemas.plan import Plan, Prefix, generate
from tasks import train as train_module
from tasks.base import base
from tasks.encode import EncodedSample, LatentFile, Latents
from tasks.job import Previewed, Started, Stepped, preview_steps
from tasks.store import store
from tasks.train import Previewing, Training, train_adapter

BUCKET = Bucket.of(Picture(width=64, height=64, frames=9, fps=24))
PLAN = Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2)))
SHORT = Training(rank=8, steps=6, learning_rate=1e-3)
PREVIEWING = Previewing(plan=PLAN, bucket=BUCKET, stg_scale=1.0)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def published(path, **tensors):
    save_file(tensors, path)
    return store().publish(path, f"latents/{path.name}")


@pytest.fixture
def latents(tmp_path):
    torch.manual_seed(0)
    text = published(tmp_path / "text", video=torch.randn(8, 64), audio=torch.randn(8, 32))
    video = published(tmp_path / "video", latent=torch.randn(128, 2, 2, 2))
    audio = published(tmp_path / "audio", latent=torch.randn(10, 128))
    files = (
        LatentFile(role="target", modality="video", artifact=video),
        LatentFile(role="target", modality="audio", artifact=audio),
    )
    sample = EncodedSample(name="a", prompt="a", fps=24, latents=files, context=text)
    return Latents(samples=(sample,), previews=(sample,), negative=text)


def trained(latents, training=SHORT, on_event=lambda event: None):
    return train_adapter(latents, (PLAN,), BUCKET, training, PREVIEWING, base().weights("transformer"), on_event)


def bytes_of(artifact):
    with store().local(artifact) as path:
        return path.read_bytes()


def test_previews_come_before_the_first_step_at_most_ten_times_between_and_at_the_end():
    assert preview_steps(100) == (0, 100)
    assert preview_steps(250) == (0, 100, 200, 250)
    assert preview_steps(2000) == (0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000)
    assert len(preview_steps(20000)) == 11


def test_a_training_reports_every_step_and_both_previews(latents):
    events = []
    adapter = trained(latents, on_event=events.append)
    assert isinstance(events[0], Started)
    assert [event.step for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Previewed)] == [0, 6]
    assert json.loads(bytes_of(adapter.losses)).keys() == {"video", "audio"}
    assert [(p.step, p.sample) for p in adapter.previews] == [(0, 0), (6, 0)]


def test_the_given_prefix_comes_back_in_the_previews(latents):
    adapter = trained(latents)
    clean = load_file(store_path(latents.samples[0].latents[0].artifact))["latent"]
    for shown in adapter.previews:
        with store().local(shown.latents) as path:
            assert torch.equal(load_file(path)["video"][:, :1], clean[:, :1])


def store_path(artifact):
    return f"{store().root}/{artifact.address}"


def test_the_same_training_is_not_done_twice(latents):
    adapter = trained(latents)
    events = []
    assert trained(latents, on_event=events.append) == adapter
    assert events == []


def test_an_interrupted_training_goes_on_and_ends_in_the_same_bytes(latents, tmp_path, monkeypatch):
    whole = bytes_of(trained(latents).weights)
    monkeypatch.setenv("LTX_FLOWS_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(train_module, "_finished", lambda key: None)

    def kill(event):
        if isinstance(event, Stepped) and event.step == 3:
            for child in children():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(TrainingInterrupted, match="killed by signal 9"):
        trained(latents, on_event=kill)
    events = []
    assert bytes_of(trained(latents, on_event=events.append).weights) == whole
    assert events[0].step >= 2  # every step of so short a training is a checkpoint


def children():
    command = ["pgrep", "-P", str(os.getpid()), "-f", "tasks.training"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def test_a_training_that_fails_says_why_in_its_last_lines(latents, tmp_path):
    broken = latents.model_copy(update={"samples": (latents.samples[0].model_copy(update={"latents": ()}),)})
    with pytest.raises(TrainingFailed, match="KeyError"):
        trained(broken)


def test_the_process_ends_when_its_parent_does(latents, tmp_path):
    job = tmp_path / "never"
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.training", str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.close()
    assert process.wait(60) == 1

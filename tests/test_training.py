"""The training process: told by a job, reports as it goes, ends with its parent, goes on after an interruption."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import CheckpointMismatch, DeviceFull, TrainingFailed, TrainingInterrupted
from schemas.media import Bucket, Picture
from schemas.plan import Plan, Prefix, generate
from tasks import child
from tasks import train as train_module
from tasks.base import base, precision
from tasks.encode import EncodedSample, LatentFile, Latents
from tasks.job import Failed, Finished, Prepared, Previewed, Retrying, Started, Stepped, preview_steps
from tasks.store import store
from tasks.train import Previewing, Training, train_adapter
from tests.jobs import events_of, job_of

# Lightning 2.6 with torch 2.13, on its own
pytestmark = pytest.mark.slow(seconds=110)

BUCKET = Bucket.of(Picture(width=64, height=64, frames=9, fps=24))
PLAN = Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2)))
SHORT = Training(rank=8, steps=6, learning_rate=1e-3)
PREVIEWING = Previewing(plan=PLAN, bucket=BUCKET, stg_scale=1.0)


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
        LatentFile(role="target", modality="audio", artifact=audio, steps=9),
    )
    sample = EncodedSample(name="a", prompt="a", fps=24, latents=files, context=text)
    return Latents(samples=(sample,), previews=(sample,), negative=text)


def trained(latents, training=SHORT, on_event=lambda event: None):
    return train_adapter(latents, (PLAN,), training, PREVIEWING, base(), precision(), on_event)


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
    assert [type(event) for event in events[:2]] == [Prepared, Started]
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert all(event.losses.keys() == {"video", "audio"} for event in steps)
    assert all(event.gradient_norm > 0 and event.tokens_per_second > 0 for event in steps)
    assert [event.step for event in events if isinstance(event, Previewed)] == [0, 6]
    assert json.loads(bytes_of(adapter.losses)).keys() == {"video", "audio"}
    assert [(p.step, p.sample) for p in adapter.previews] == [(0, 0), (6, 0)]


def test_the_given_prefix_comes_back_in_the_previews(tmp_path):
    job = job_of(PLAN, tmp_path / "job", previews=True)
    events = events_of(job)
    torch.use_deterministic_algorithms(False)
    clean = load_file(job.samples[0].latents[-2].path)["latent"]
    for shown in (event for event in events if isinstance(event, Previewed)):
        assert torch.equal(load_file(shown.path)["video"][:, :1], clean[:, :1])


def test_an_interrupted_training_goes_on_and_ends_in_the_same_bytes(latents, tmp_path, monkeypatch):
    latents = latents.model_copy(update={"previews": ()})
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
    assert events[1].step >= 2  # every step of so short a training is a checkpoint


def children():
    command = ["pgrep", "-P", str(os.getpid()), "-f", "tasks.training"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def test_a_training_that_fails_says_why_in_its_last_lines(latents, monkeypatch):
    monkeypatch.setattr(child, "command", lambda path: ["sh", "-c", "echo Traceback; echo KeyError: video >&2; exit 3"])
    with pytest.raises(TrainingFailed, match=r"ended with code 3: Traceback \| KeyError: video"):
        trained(latents)


def test_the_same_training_is_not_done_twice(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [finished(tmp_path)])
    adapter = trained(latents)
    assert trained(latents) == adapter
    assert len(jobs) == 1


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


def test_out_of_memory_is_tried_once_more_with_everything_recomputed_and_says_so(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [FULL], [finished(tmp_path)])
    events = []
    trained(latents, on_event=events.append)
    assert [job["recompute_all"] for job in jobs] == [False, True]
    assert [event.event for event in events] == ["failed", "retrying", "finished"]
    assert isinstance(events[1], Retrying) and "CUDA out of memory" in events[1].message


def test_out_of_memory_twice_is_an_error_that_says_what_to_do(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [FULL], [FULL])
    with pytest.raises(DeviceFull, match="lower the resolution"):
        trained(latents)
    assert len(jobs) == 2


def test_the_error_of_the_process_keeps_its_class(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [Failed(error="CheckpointMismatch", message="of another training")])
    with pytest.raises(CheckpointMismatch, match="of another training"):
        trained(latents)
    assert len(jobs) == 1


def test_a_damaged_checkpoint_ends_the_real_process_with_its_error(latents, monkeypatch):
    real = child.command

    def damaging(path):
        (path.parent / "last.ckpt").write_bytes(b"damaged")
        return real(path)

    monkeypatch.setattr(child, "command", damaging)
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        trained(latents)


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

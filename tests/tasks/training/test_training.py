"""The training process: told by a job, reports as it goes, ends with its parent, goes on after an interruption."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import (
    CheckpointMismatch,
    DeviceFull,
    TrainingFailed,
    TrainingInterrupted,
)
from tasks import train as train_module
from tasks.training import process as child
from tasks.training.job import Failed, Prepared, Previewed, Retrying, Started, Stepped, preview_steps
from tests.support.jobs import events_of, job_of
from tests.support.trainings import FULL, PLAN, bytes_of, children, finished, pretending, trained

# Lightning 2.6 with torch 2.13, on its own
pytestmark = pytest.mark.slow(seconds=110)


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


@pytest.mark.long
def test_the_given_prefix_comes_back_in_the_previews(tmp_path):
    job = job_of(PLAN, tmp_path / "job", previews=True)
    events = events_of(job)
    torch.use_deterministic_algorithms(False)
    clean = load_file(job.path(job.samples[0].latents[-2].artifact))["latent"]
    for shown in (event for event in events if isinstance(event, Previewed)):
        assert torch.equal(load_file(shown.path)["video"][:, :1], clean[:, :1])


@pytest.mark.long
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


def test_a_training_that_fails_says_why_in_its_last_lines(latents, monkeypatch):
    monkeypatch.setattr(child, "command", lambda path: ["sh", "-c", "echo Traceback; echo KeyError: video >&2; exit 3"])
    with pytest.raises(TrainingFailed, match=r"ended with code 3: Traceback \| KeyError: video"):
        trained(latents)


def test_the_same_training_is_not_done_twice(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [finished(tmp_path)])
    adapter = trained(latents)
    assert trained(latents) == adapter
    assert len(jobs) == 1


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


@pytest.mark.long
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

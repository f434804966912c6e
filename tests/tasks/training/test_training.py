"""The training process: told by a job, reports as it goes, ends with its parent, goes on after an interruption."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import (
    CheckpointMismatch,
    DeviceFailed,
    DeviceFull,
    TrainingFailed,
    TrainingHung,
    TrainingInterrupted,
)
from schemas.media import Bucket, Picture
from schemas.plan import Plan, Prefix, generate
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks import train as train_module
from tasks.base_model import base, precision
from tasks.manifests import EncodedSample, LatentFile, Latents
from tasks.storage.store import store
from tasks.train import train_adapter
from tasks.training import process as child
from tasks.training.job import Beat, Failed, Finished, Prepared, Previewed, Retrying, Started, Stepped, preview_steps
from tests.support.jobs import events_of, job_of

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
    clean = load_file(job.path(job.samples[0].latents[-2].artifact))["latent"]
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


# --- a process that hangs, a device that fails ---------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_TRAINING_SILENCE_SECONDS", "1")
    settings.cache_clear()


def silent_after(tmp_path, monkeypatch, *runs):
    """Processes that say what they are told to, and then nothing for ever unless that was their end."""
    jobs = pretending(monkeypatch, tmp_path, *runs)
    tell = child.command

    def command(path):
        shell, flag, script = tell(path)
        ended = isinstance(runs[len(jobs) - 1][-1:][0], Finished | Failed)
        return [shell, flag, script if ended else script.replace("exit 0", "sleep 1000")]

    monkeypatch.setattr(child, "command", command)
    return jobs


STARTED = Started(step=0, device="cpu", trained_parameters=1)
FAULT = Failed(error="DeviceFailed", message="CUDA error: an illegal memory access was encountered")


@pytest.mark.usefixtures("impatient")
def test_a_training_that_says_nothing_any_more_is_ended_and_goes_on_from_its_checkpoint(latents, tmp_path, monkeypatch):
    jobs = silent_after(tmp_path, monkeypatch, [STARTED], [finished(tmp_path)])
    events = []
    trained(latents, on_event=events.append)
    assert [event.event for event in events] == ["started", "retrying", "finished"]
    assert "said nothing for 1 s; going on from the last checkpoint" in events[1].message
    assert len({job["folder"] for job in jobs}) == 1


@pytest.mark.usefixtures("impatient")
def test_a_training_that_hangs_twice_is_an_error_and_its_checkpoint_stays(latents, tmp_path, monkeypatch):
    jobs = silent_after(tmp_path, monkeypatch, [STARTED], [STARTED])
    with pytest.raises(TrainingHung, match=r"said nothing for 1 s; look at the device .* goes on from its checkpoint"):
        trained(latents)
    assert len(jobs) == 2 and Path(jobs[0]["folder"]).is_dir()


@pytest.mark.usefixtures("impatient")
def test_a_training_that_takes_its_time_and_beats_is_left_alone(latents, tmp_path, monkeypatch):
    finished(tmp_path)
    beat, end = Beat().model_dump_json(), finished(tmp_path).model_dump_json()
    script = f"for n in 1 2 3 4; do sleep 0.5; echo '{beat}'; done; echo '{end}'"
    monkeypatch.setattr(child, "command", lambda path: ["sh", "-c", script])
    assert trained(latents).weights.size > 0


def test_a_fault_of_the_device_is_tried_once_more_from_the_checkpoint(latents, tmp_path, monkeypatch):
    jobs = pretending(monkeypatch, tmp_path, [STARTED, FAULT], [finished(tmp_path)])
    trained(latents)
    assert [job["recompute_all"] for job in jobs] == [False, False]


def test_a_device_that_fails_again_is_an_error_that_names_it(latents, tmp_path, monkeypatch):
    pretending(monkeypatch, tmp_path, [FAULT], [FAULT])
    with pytest.raises(DeviceFailed, match=r"illegal memory access .* look at the device"):
        trained(latents)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("NCCL Error 2: unhandled system error"),
    ],
)
def test_what_the_device_and_its_libraries_report_is_told_as_a_fault_of_the_device(error, tmp_path, monkeypatch):
    def fail(*words, **more):
        raise error

    monkeypatch.setattr("tasks.training.__main__.preflight", fail)
    with pytest.raises(DeviceFailed, match=str(error).split(":", maxsplit=1)[0]):
        events_of(job_of(PLAN, tmp_path / "job"))
    torch.use_deterministic_algorithms(False)


def test_a_defect_of_ours_is_no_fault_of_the_device(tmp_path, monkeypatch):
    def fail(*words, **more):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("tasks.training.__main__.preflight", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        events_of(job_of(PLAN, tmp_path / "job"))
    torch.use_deterministic_algorithms(False)


def test_a_training_beats_while_it_loads_and_while_it_makes_previews(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.training.callbacks.SECONDS_BETWEEN_BEATS", 0.0)
    events = [event.event for event in events_of(job_of(PLAN, tmp_path / "job", previews=True))]
    torch.use_deterministic_algorithms(False)
    assert "beat" in events[: events.index("prepared")]
    assert events[: events.index("preview")].count("beat") > 25  # every step of its sampler

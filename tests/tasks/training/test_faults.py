"""A training process that hangs, or whose device fails, is ended and tried once more."""

from pathlib import Path

import pytest
import torch

from schemas.errors import (
    DeviceFailed,
    TrainingHung,
)
from schemas.settings import settings
from tasks.training import process as child
from tasks.training.job import Beat, Failed, Finished, Started
from tests.support.jobs import events_of, job_of
from tests.support.trainings import PLAN, finished, pretending, trained


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

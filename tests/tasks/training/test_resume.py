"""An interrupted training ends in the bytes of an uninterrupted one, whatever it trains and wherever it was cut."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import CheckpointMismatch
from tasks.training.__main__ import run
from tasks.training.job import Saved, Started, Stepped
from tests.support.jobs import adapter_of, events_of, interrupted_after, job_of
from tests.support.tensors import PLANS

# Lightning 2.6 with torch 2.13, on its own
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def own_determinism():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted training of each plan, run once."""
    folder = tmp_path_factory.mktemp("whole")
    jobs = {name: job_of(plan, folder / name) for name, plan in PLANS.items()}
    for job in jobs.values():
        events_of(job)
    torch.use_deterministic_algorithms(False)
    return {name: adapter_of(job) for name, job in jobs.items()}


@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("name", PLANS)
def test_a_training_that_is_cut_goes_on_and_ends_in_the_same_bytes(name, step, whole, tmp_path):
    job = job_of(PLANS[name], tmp_path / "cut")
    interrupted_after(job, step)
    started = next(event for event in events_of(job) if isinstance(event, Started))
    assert started.step == step - 1
    assert adapter_of(job) == whole[name]


def test_a_training_may_be_cut_more_than_once(whole, tmp_path):
    job = job_of(PLANS["masked"], tmp_path / "cut")
    for step in (2, 4):
        interrupted_after(job, step)
    events_of(job)
    assert adapter_of(job) == whole["masked"]


@pytest.mark.parametrize("name", ["audio prefix", "both prefixes"])
def test_a_training_with_previews_ends_in_the_bytes_of_one_without(name, whole, tmp_path):
    job = job_of(PLANS[name], tmp_path / "previews", previews=True)
    assert [event.step for event in events_of(job) if event.event == "preview"] == [0, 5]
    assert adapter_of(job) == whole[name]


def test_all_random_generators_go_on_where_they_were(tmp_path):
    def drawn(job, until):
        draws = []

        def say(event):
            if isinstance(event, Stepped):
                draws.append((event.step, random.random(), np.random.rand(), torch.rand(1).item()))
                if event.step == until:
                    raise InterruptedError

        try:
            run(job, say)
        except InterruptedError:
            draws.pop()
        return draws

    uncut, cut = (job_of(PLANS["audio prefix"], tmp_path / name) for name in ("uncut", "cut"))
    assert drawn(cut, until=3) + drawn(cut, until=9) == drawn(uncut, until=9)


def test_losses_of_before_the_cut_are_kept(tmp_path):
    uncut, cut = (job_of(PLANS["both prefixes"], tmp_path / name) for name in ("uncut", "cut"))
    interrupted_after(cut, 4)
    for job in (uncut, cut):
        events_of(job)
    assert (cut.folder / "losses.json").read_text() == (uncut.folder / "losses.json").read_text()


@pytest.mark.parametrize("change", [{"steps": 6}, {"learning_rate": 1e-3}, {"rank": 8}, {"seed": 8}, {"key": "other"}])
def test_a_checkpoint_of_another_job_is_an_error_and_stays(change, tmp_path):
    job = job_of(PLANS["audio prefix"], tmp_path / "job")
    interrupted_after(job, 3)
    before = (job.folder / "last.ckpt").read_bytes()
    with pytest.raises(CheckpointMismatch, match=f"is of another training: {next(iter(change))} "):
        run(job.model_copy(update=change), lambda event: None)
    assert (job.folder / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"half a file", pickle.dumps(print)])
def test_a_damaged_checkpoint_is_an_error_and_stays(damage, tmp_path):
    job = job_of(PLANS["audio prefix"], tmp_path / "job")
    (job.folder / "last.ckpt").write_bytes(damage)
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        run(job, lambda event: None)
    assert (job.folder / "last.ckpt").read_bytes() == damage


class Planted:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    job = job_of(PLANS["audio prefix"], tmp_path / "job")
    torch.save({"identity": Planted(tmp_path / "planted")}, job.folder / "last.ckpt")
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        run(job, lambda event: None)
    assert not (tmp_path / "planted").exists()


def test_one_checkpoint_is_kept_and_no_part_of_one(tmp_path):
    job = job_of(PLANS["audio prefix"], tmp_path / "job")
    (job.folder / "last.part").write_bytes(b"killed while writing")
    events_of(job)
    assert sorted(path.name for path in job.folder.glob("last.*")) == ["last.ckpt", "last.step"]


@pytest.mark.parametrize("damage", [b"", b"half a file", None])
def test_a_preview_that_is_damaged_is_found_by_its_hash_and_made_anew(damage, tmp_path):
    uncut, cut = (job_of(PLANS["audio prefix"], tmp_path / name, previews=True) for name in ("uncut", "cut"))
    shown = Path("previews") / "00000-0.safetensors"
    interrupted_after(cut, 1)  # before its first checkpoint: it begins anew, with the preview that is there
    spoilt = cut.folder / shown
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    for job in (uncut, cut):
        events_of(job)
    assert spoilt.read_bytes() == (uncut.folder / shown).read_bytes()


def test_a_training_that_is_killed_between_its_last_checkpoint_and_its_last_preview_makes_that_preview(tmp_path):
    uncut, cut = (job_of(PLANS["audio prefix"], tmp_path / name, previews=True) for name in ("uncut", "cut"))

    def say(event):
        if isinstance(event, Saved) and event.step == cut.steps:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(cut, say)
    shown = Path("previews") / f"{cut.steps:05}-0.safetensors"
    assert not (cut.folder / shown).exists()
    ended = events_of(cut)[-1]
    assert ended.previews == tuple(
        each.model_copy(update={"path": cut.folder / each.path.relative_to(uncut.folder)})
        for each in events_of(uncut)[-1].previews
    )
    assert (cut.folder / shown).read_bytes() == (uncut.folder / shown).read_bytes()
    assert adapter_of(cut) == adapter_of(uncut)

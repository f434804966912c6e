"""Numbers that are not finite: updates are left out, some in a row end the run, nothing of it is published."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.engine.trainer import CLIP_NORM
from schemas.errors import EncodingFailed, TrainingDiverged
from schemas.media import Bucket, FitOptions, Sample
from schemas.plan import Plan, Prefix, generate
from tasks import encode as encoding
from tasks.base_model import base, precision
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_samples
from tasks.storage.store import store
from tasks.training import callbacks as reporter
from tasks.training.__main__ import run
from tasks.training.job import EVENT, Finished, Previewed, Stepped
from tests.support.clips import kept, tone
from tests.support.jobs import events_of, interrupted_after, job_of
from tests.support.tensors import PLANS

PLAN = PLANS["audio prefix"]

pytestmark = [
    pytest.mark.slow(seconds=20),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
]


@pytest.fixture(autouse=True)
def own_determinism():
    yield
    torch.use_deterministic_algorithms(False)


def poisoned(job, *clips):
    """The same job, with numbers in some of its clips that are none."""
    for number in clips:
        path = job.path(next(file.artifact for file in job.samples[number].latents if file.role == "target"))
        latent = load_file(path)["latent"]
        latent[-1] = math.nan
        save_file({"latent": latent.contiguous()}, path)
    return job


def stepped(events):
    return [event for event in events if isinstance(event, Stepped)]


def test_an_update_that_is_not_finite_is_left_out_and_the_training_goes_on(tmp_path):
    events = events_of(poisoned(job_of(PLAN, tmp_path / "job", steps=6), 1))
    finished = events[-1]
    bad = [event.step for event in stepped(events) if not math.isfinite(event.loss)]
    assert isinstance(finished, Finished) and list(finished.skipped) == bad and 0 < len(bad) < 6
    tensors = load_file(finished.adapter)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert all(tensor.any() for key, tensor in tensors.items() if ".lora_B." in key)
    losses = json.loads(finished.losses.read_text(), parse_constant=pytest.fail)
    assert [step for step, loss in enumerate(losses["audio"], 1) if loss is None] == bad


def test_a_step_that_is_left_out_changes_neither_the_adapter_nor_what_the_optimiser_remembers(tmp_path):
    good = job_of(PLAN, tmp_path / "good", steps=1, clips=1)
    bad = poisoned(job_of(PLAN, tmp_path / "bad", steps=1, clips=1), 0)
    for job in (good, bad):
        events_of(job)
    assert any(moment.any() for moment in moments_of(good))
    assert not any(moment.any() for moment in moments_of(bad))  # and so none of them is NaN


def moments_of(job):
    held = torch.load(job.folder / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"].values()
    return [state[name] for state in held for name in ("exp_avg", "exp_avg_sq")]


def test_some_in_a_row_end_the_training_with_its_step_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "MOST_SKIPPED", 3)
    job = job_of(PLAN, tmp_path / "job", steps=8, clips=1)
    interrupted_after(job, 3)  # two steps are good
    poisoned(job, 0)
    with pytest.raises(TrainingDiverged, match=r"at step 5 .* last 3 steps are not finite; lower learning_rate, which"):
        events_of(job)
    assert not (job.folder / "lora.safetensors").exists()


def test_where_no_step_was_finite_the_data_and_the_base_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "MOST_SKIPPED", 3)
    with pytest.raises(TrainingDiverged, match="look at the base model's weights and at the clips first"):
        events_of(poisoned(job_of(PLAN, tmp_path / "job", clips=1), 0))


def test_a_rate_so_high_that_the_adapter_explodes_is_never_published(tmp_path, monkeypatch):
    monkeypatch.setattr("models.engine.trainer.CLIP_NORM", 1e30)
    assert CLIP_NORM == 1.0
    job = job_of(PLAN, tmp_path / "job", steps=30, learning_rate=1e30, previews=True)
    with pytest.raises(TrainingDiverged, match="not finite"):
        events_of(job)
    assert not (job.folder / "lora.safetensors").exists()


def test_a_preview_that_is_not_finite_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "sample", lambda *words, **more: {"audio": torch.full((10, 128), math.inf)})
    events = []
    with pytest.raises(TrainingDiverged, match="at step 0 the numbers of a preview are not finite"):
        run(job_of(PLAN, tmp_path / "job", previews=True), events.append)
    assert not any(isinstance(event, Previewed) for event in events)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_the_other_side_can_read_a_step_that_is_not_finite(number):
    event = Stepped(step=1, loss=number, losses={"audio": number}, gradient_norm=number, tokens_per_second=1.0)
    read = EVENT.validate_json(event.model_dump_json())
    assert isinstance(read, Stepped) and (read.step, math.isfinite(read.loss)) == (1, False)


def test_latents_that_are_not_finite_are_never_kept(tmp_path, monkeypatch):
    clip = kept(tone(tmp_path / "a.wav", 0.6))
    sample = Sample(name="a", caption="", files={"target": clip})
    tracks = Plan(audio=generate(Prefix(steps=2))).tracks
    fitted = fit_samples((sample,), Bucket(seconds=0.4), tracks, FitOptions()).samples

    def broken(wanted, encoders):
        return ((want, {"latent": torch.full((10, 128), math.nan)}) for want in wanted)

    monkeypatch.setitem(encoding._ENCODERS, "audio", broken)
    with pytest.raises(EncodingFailed, match=f"the audio encoder gives numbers that are not finite .*{clip.sha256}"):
        encode_clips(fitted, (), "", Encoders(base(), precision()), lambda done, total: None)
    assert [file for file in store().place.files() if file.address.startswith("latents/audio")] == []

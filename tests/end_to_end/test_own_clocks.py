"""Pairs at two frame rates, taken as they are: the reference keeps its own clock, in picture and sound."""

from pathlib import Path

import pytest
import torch

from models.ltx2.geometry import reference_positions, video_positions
from models.training_inputs import conditioned
from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Plan, Reference, generate
from tasks.base_model import base, precision
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_samples
from tasks.storage.store import store
from tasks.training.callbacks import read_sample
from tasks.training.job import Job
from tests.support import clips
from tests.support.tensors import random_sample

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
BOTH = Plan(video=generate(Reference()), audio=generate(Reference()))
AS_THEY_ARE = FitOptions()
SLOWER = Plan(video=generate(Reference(temporal_scale=2)), audio=generate(Reference()))


@pytest.fixture
def pair(tmp_path):
    """A target at 24 frames per second, and its reference at 30."""
    start = clips.kept(clips.video(tmp_path / "n_start.mp4", 30, 30, sound=True))
    end = clips.kept(clips.video(tmp_path / "n_end.mp4", 24, 24, sound=True))
    return Sample(name="n", caption="", files={"reference": start, "target": end})


def read(sample, plan, fitting=AS_THEY_ARE):
    """A sample as the training process reads it, from files."""
    fitted = fit_samples((sample,), BUCKET, plan.tracks, fitting).samples
    encoders = Encoders(base(), precision())
    [encoded] = encode_clips(fitted, (), "", encoders, lambda done, total: None)[0].samples
    artifacts = [encoded.context, *(file.artifact for file in encoded.latents)]
    paths = {each.address: Path(store().root) / each.address for each in artifacts}
    return read_sample(Job.model_construct(files=paths), encoded, plan)


def test_the_references_sound_is_as_long_as_its_own_frames(pair):
    sample = read(pair, BOTH)
    steps = {role: len(sample.latents[role, "audio"]) for role in ("target", "reference")}
    assert steps == {"target": 18, "reference": 14}  # 17 / 24 s = 17.7 steps, 17 / 30 s = 14.2


@pytest.mark.parametrize(("plan", "scale"), [(BOTH, 1), (SLOWER, 2)])
def test_the_references_picture_lies_at_its_own_times(pair, plan, scale):
    sample = read(pair, plan)
    position = conditioned(sample)["video"].tokens.position
    steps = 2 // scale + 1
    of_reference, of_target = position[:, :, : steps * 4], position[:, :, steps * 4 :]
    assert of_reference.equal(reference_positions(steps, 2, 2, 30.0, downscale=1, temporal_scale=scale))
    assert of_target.equal(video_positions(3, 2, 2, 24.0))


def test_where_clips_are_retimed_both_lie_at_the_targets_times(pair):
    sample = read(pair, BOTH, FitOptions(auto_scale=True))
    position = conditioned(sample)["video"].tokens.position
    assert position[:, :, :12].equal(position[:, :, 12:])
    assert len(sample.latents["reference", "audio"]) == len(sample.latents["target", "audio"]) == 18


def test_a_reference_without_a_clock_of_its_own_keeps_step_with_the_target():
    sample = random_sample(SLOWER)
    position = conditioned(sample)["video"].tokens.position
    assert position[:, 0].max() == pytest.approx(33 / 25)
    assert torch.equal(position[:, :, : 3 * 4], reference_positions(3, 2, 2, 25.0, downscale=1, temporal_scale=2))

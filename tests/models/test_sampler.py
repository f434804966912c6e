"""The sampler: the same for the same seed, and what was given comes back exactly."""

import pytest
import torch

from models.ltx2.spec import stg_block_of
from models.sampler import Guidance, draw_noise, sample
from schemas.errors import ConditionError
from schemas.media import Bucket, Picture
from tests.support.tensors import PLANS, random_sample, tiny_transformer

BUCKET = Bucket.of(Picture(width=64, height=64, frames=33, fps=25))
QUICK = Guidance(steps=2, stg_block=0)


def sampled(plan, given=None, seed=0, guidance=QUICK, **options):
    clip = random_sample(plan)
    return sample(
        tiny_transformer(*plan.modalities), plan, BUCKET, given=clip.latents if given is None else given,
        positive=clip.context, negative=random_sample(plan, seed=1).context, guidance=guidance,
        noise=draw_noise(plan, BUCKET, seed), **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_sampled_in_the_shapes_of_training(name):
    latents = sampled(PLANS[name])
    shapes = {"video": (128, 5, 2, 2), "audio": (33, 128)}
    assert {kind: tuple(latent.shape) for kind, latent in latents.items()} == {
        kind: shapes[kind] for kind in PLANS[name].modalities
    }
    assert all(latent.isfinite().all() for latent in latents.values())


def test_the_same_seed_gives_the_same_preview():
    plan = PLANS["both prefixes"]
    first, again, other = sampled(plan), sampled(plan), sampled(plan, seed=1)
    assert first["video"].equal(again["video"]) and first["audio"].equal(again["audio"])
    assert not first["video"].equal(other["video"])


def test_the_prefix_comes_back_exactly():
    plan = PLANS["both prefixes"]
    latents, given = sampled(plan), random_sample(plan).latents
    assert latents["video"][:, :1].equal(given["target", "video"][:, :1])
    assert latents["audio"][:2].equal(given["target", "audio"][:2])
    assert not latents["video"][:, 1].equal(given["target", "video"][:, 1])


def test_only_the_prefix_of_the_target_is_needed_and_read():
    plan = PLANS["video prefix"]
    opening = {("target", "video"): random_sample(plan).latents["target", "video"][:, :1]}
    assert sampled(plan, opening)["video"].equal(sampled(plan)["video"])


def test_cells_outside_the_mask_come_back_exactly():
    plan = PLANS["masked"]
    latent, given = sampled(plan)["video"], random_sample(plan).latents
    black = ~given["mask", "video"]
    assert latent[:, black].equal(given["target", "video"][:, black])
    assert latent[:, ~black].ne(given["target", "video"][:, ~black]).all()


def test_a_target_shorter_than_its_prefix_is_refused():
    with pytest.raises(ConditionError, match="keeps 2 tokens of its target, and 1 are given"):
        sampled(PLANS["audio prefix"], {("target", "audio"): torch.zeros(1, 128)})
    with pytest.raises(ConditionError, match="none that fits is given"):
        sampled(PLANS["audio prefix"], {})


def test_a_scale_that_does_nothing_is_the_same_as_no_pass():
    plain = Guidance(steps=2, audio_cfg=1, stg=0, rescale=0)
    clip = random_sample(PLANS["audio prefix"])
    tiny = tiny_transformer("audio")
    alike = [
        sample(tiny, clip.plan, BUCKET, given=clip.latents, positive=clip.context, negative=negative, guidance=plain,
               noise=draw_noise(clip.plan, BUCKET, 0))["audio"]
        for negative in (clip.context, random_sample(clip.plan, seed=1).context)
    ]  # fmt: skip
    assert alike[0].equal(alike[1])


def test_stg_skips_block_28_or_the_last_but_one_of_a_smaller_model():
    assert [stg_block_of(layers) for layers in (48, 30, 29, 2, 1)] == [28, 28, 27, 0, 0]

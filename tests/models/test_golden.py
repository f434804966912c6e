"""Our numbers are the official ones: inputs, positions, losses, velocities, guidance, schedules, sampling."""

import math

import pytest
import torch

from models.conditions import Source
from models.ltx2.transformer import velocities
from models.noise import shifted_logit_normal
from models.sampler import Guidance, Passes, guide, sample, sigma_schedule
from models.tokens import grid_of, tokens_of
from models.training_inputs import conditioned_stream, training_loss, training_stream
from schemas.media import Bucket, Picture
from schemas.plan import Generated, Mask, Plan, Prefix, Reference
from schemas.units import audio_steps
from tests.support.tensors import GOLDEN, golden_model, packed, read_golden

TRAINING = sorted(path.name for path in GOLDEN.glob("train_*"))
SAMPLING = sorted(path.name for path in GOLDEN.glob("sample_*"))
ROUNDING = 5e-5  # through two blocks, between kinds of CPU (docs/ltx2.md, section D)
RULES, _ = read_golden(GOLDEN / "rules.safetensors")


def close(ours, official, atol=1e-5):
    torch.testing.assert_close(ours.float(), official.float(), rtol=0, atol=atol)


def golden_stream(kind, tensors, metadata):
    """A training file's inputs through the function that training uses."""
    conditions = []
    if steps := metadata[f"{kind}_prefix"]:
        conditions.append(Prefix(steps=steps))
    if (keep := tensors.get(f"in.{kind}.mask")) is not None:
        conditions.append(Mask())
    if (reference := packed(kind, tensors.get(f"in.{kind}.reference"))) is not None:
        factors = metadata["spatial_factor"] or 1, metadata["temporal_factor"] or 1
        conditions.append(Reference(downscale=factors[0], temporal_scale=factors[1]))
    latent = packed(kind, tensors[f"in.{kind}.latents"])
    source = Source(
        grid=grid_of(latent),
        fps=metadata["fps"],
        clean=tokens_of(latent),
        reference=reference,
        learn_cells=None if keep is None else keep.flatten(1) <= 0.5,
    )
    noise, sigma, context = (tensors[f"in.{kind}.{name}"] for name in ("noise", "sigma", "context"))
    given = conditioned_stream(kind, Generated(conditions=tuple(conditions)), source, context)
    return training_stream(given, noise=noise, sigma=sigma)


@pytest.mark.parametrize("name", TRAINING)
def test_training_reads_and_learns_what_the_official_trainer_does(name):
    tensors, metadata = read_golden(GOLDEN / name)
    kinds = [kind for kind in ("video", "audio") if f"in.{kind}.latents" in tensors]
    streams = {kind: golden_stream(kind, tensors, metadata) for kind in kinds}
    for kind, stream in streams.items():
        tokens = stream.input.tokens
        close(tokens.latent, tensors[f"out.{kind}.noisy"])
        close(tokens.sigma, tensors[f"out.{kind}.timesteps"])
        close(tokens.position, tensors[f"out.{kind}.positions"])
        close(stream.input.sigma, tensors[f"out.{kind}.sigma"])
        close(stream.velocity, tensors[f"out.{kind}.targets"])
        assert tokens.learn.equal(tensors[f"out.{kind}.loss_mask"].bool())
    waves = {kind: torch.sin(3 * stream.input.tokens.latent) for kind, stream in streams.items()}
    losses = training_loss(waves, streams)
    for kind in kinds:
        close(losses[kind], tensors[f"out.sin.{kind}.loss"])
    close(sum(losses.values()), tensors["out.sin.loss"])


@pytest.mark.parametrize("name", TRAINING)
def test_velocities_and_losses_are_those_of_the_official_transformer(name):
    tensors, metadata = read_golden(GOLDEN / name)
    kinds = [kind for kind in ("video", "audio") if f"in.{kind}.latents" in tensors]
    streams = {kind: golden_stream(kind, tensors, metadata) for kind in kinds}
    predicted = velocities(golden_model(), {kind: stream.input for kind, stream in streams.items()})
    losses = training_loss(predicted, streams)
    for kind in kinds:
        if f"out.model.{kind}" in tensors:
            close(predicted[kind], tensors[f"out.model.{kind}"], atol=ROUNDING)
        close(losses[kind], tensors[f"out.model.{kind}.loss"])
    close(sum(losses.values()).mean(), tensors["out.model.loss_scalar"])


def golden_given(tensors, conditions):
    """A sampling file's conditions -> our plan's conditions per kind, and what they take clean tokens from."""
    plans, given = {}, {}
    for index, each in enumerate(conditions):
        kind, latent = each["kind"], tensors[f"in.cond{index}.latent"]
        role = "reference" if each["type"] == "reference" else "target"
        given[role, kind] = packed(kind, latent)[0]
        match each["type"]:
            case "prefix":
                wanted = Prefix(steps=latent.shape[2])
            case "mask":
                wanted = Mask()
                given["mask", "video"] = tensors[f"in.cond{index}.mask"][0] <= 0.5
            case "reference":
                wanted = Reference(
                    downscale=each.get("downscale_factor", 1), temporal_scale=each.get("temporal_scale_factor", 1)
                )
        plans[kind] = (*plans.get(kind, ()), wanted)
    return plans, given


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_gives_the_official_latents(name):
    tensors, metadata = read_golden(GOLDEN / name)
    plans, given = golden_given(tensors, metadata["conditions"])
    plan = Plan(**{kind: Generated(conditions=conditions) for kind, conditions in plans.items()})
    size = {key: metadata[key] for key in ("width", "height", "frames")}
    bucket = Bucket.of(Picture(**size, fps=metadata["frame_rate"]))
    official = {kind: packed(kind, tensors[f"out.{kind}.latent"])[0] for kind in plan.modalities}
    # the official order is [target, reference]: the target's noise is the beginning
    noise = {k: tensors[f"in.noise.{k}"][:, : math.prod(latent.shape) // 128] for k, latent in official.items()}
    positive = {kind: tensors[f"in.context.{kind}_pos"][0] for kind in ("video", "audio")}
    negative = {kind: tensors[f"in.context.{kind}_neg"][0] for kind in ("video", "audio")}
    ours = sample(
        golden_model(), plan, bucket, given=given, positive=positive, negative=negative,
        guidance=Guidance(steps=4, stg_block=1), noise=noise,
    )  # fmt: skip
    for kind, latent in official.items():
        close(ours[kind], latent, atol=ROUNDING)


@pytest.mark.parametrize("tokens", [12, 126, 1024, 2688, 4096, 6912, 13824])
def test_sigma_is_drawn_as_officially(tokens):
    draws = {name: RULES[f"timesteps.{tokens}.{name}"] for name in ("normal", "uniform", "prob", "sigma")}
    close(shifted_logit_normal(tokens, draws["normal"], draws["uniform"], draws["prob"]), draws["sigma"])


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 30])
def test_the_sampler_walks_down_the_official_sigmas(steps):
    close(sigma_schedule(steps), RULES[f"sigmas.{steps}"])


def test_guidance_combines_passes_as_officially():
    passes = Passes(*(RULES[f"guide.{name}"] for name in ("cond", "neg", "perturbed", "isolated")))
    close(guide(passes, Guidance(), "video"), RULES["guide.video"])
    close(guide(passes, Guidance(), "audio"), RULES["guide.audio"])
    alone = Passes(passes.conditioned, passes.negative, passes.perturbed)
    close(guide(alone, Guidance(), "audio"), RULES["guide.audio_only"])


def test_audio_steps_round_half_to_even_as_officially():
    ours = [audio_steps(seconds) for seconds in RULES["audio_steps.seconds"].tolist()]
    assert ours == RULES["audio_steps.steps"].tolist()

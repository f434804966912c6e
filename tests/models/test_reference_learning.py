"""References in training: given as officially, and really used where they carry the answer."""

from dataclasses import replace

import pytest
import torch

from models.conditions import source_of
from models.ltx2.adapter import adapter_parameters, add_adapter
from models.ltx2.transformer import velocities
from models.noise import generator_of
from models.tokens import grid_of, tokens_of
from models.training_inputs import (
    TrainingSample,
    conditioned,
    conditioned_stream,
    training_loss,
    training_stream,
    training_streams,
)
from schemas.endpoints import ENDPOINTS
from schemas.plan import Generated, Mask, Reference
from tests.support.sweeps import swept
from tests.support.tensors import GOLDEN, packed, read_golden, tiny_transformer

REFERENCES = sorted(path.name for path in GOLDEN.glob("train_*") if "reference" in path.name or "masked" in path.name)


# --- as officially ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCES)
def test_a_samples_latents_become_the_official_tokens(name):
    tensors, about = read_golden(GOLDEN / name)
    for kind in [kind for kind in ("video", "audio") if f"in.{kind}.latents" in tensors]:
        latent, reference = (packed(kind, tensors[f"in.{kind}.{what}"]) for what in ("latents", "reference"))
        factors = about["spatial_factor"] or 1, about["temporal_factor"] or 1
        keep = tensors.get(f"in.{kind}.mask")
        conditions = (*([] if keep is None else [Mask()]), Reference(downscale=factors[0], temporal_scale=factors[1]))
        for row in range(len(latent)):
            roles = {("reference", kind): reference[row]} | ({} if keep is None else {("mask", kind): keep[row] <= 0.5})
            one = {what: tensors[f"in.{kind}.{what}"][row, None] for what in ("noise", "sigma", "context")}
            target = latent[row, None]
            source = source_of(roles, kind, about["fps"], tokens_of(target), grid_of(target))
            given = conditioned_stream(kind, Generated(conditions=conditions), source, one["context"])
            stream = training_stream(given, noise=one["noise"], sigma=one["sigma"])
            tokens = stream.input.tokens
            for ours, official in (
                (tokens.latent, "noisy"),
                (tokens.sigma, "timesteps"),
                (tokens.position, "positions"),
            ):
                torch.testing.assert_close(ours[0], tensors[f"out.{kind}.{official}"][row], rtol=0, atol=1e-5)
            assert tokens.learn[0].equal(tensors[f"out.{kind}.loss_mask"][row].bool())


# --- really used --------------------------------------------------------------------------------------------------

CELLS, STEPS = 2, 10  # 64x64 pixels and 9 frames; 0.4 s
ANSWER = 2.0  # how much of the loss the answer makes


def pair(plan, number, transformer):
    """Target and reference are one sound (and one picture) that the model can say; pairs differ, captions do not."""
    draw = torch.Generator().manual_seed(number)
    says = {"video": transformer.proj_out, "audio": transformer.audio_proj_out}
    latents = {("mask", "video"): torch.ones(2, CELLS, CELLS, dtype=torch.bool)}
    latents["mask", "video"][:, :, 0] = False
    for modality in plan.modalities:
        weight = says[modality].weight.detach()
        colour = ANSWER * (weight @ torch.randn(weight.shape[1], generator=draw))
        shape = (-1, 2, CELLS, CELLS) if modality == "video" else (STEPS, -1)
        latent = (colour[:, None, None, None] if modality == "video" else colour).expand(*shape).contiguous()
        latents["target", modality] = latents["reference", modality] = latent
    context = {"video": torch.zeros(4, 64), "audio": torch.zeros(4, 32)}
    return TrainingSample(name=f"pair{number}", plan=plan, fps=24.0, latents=latents, context=context)


def losses(transformer, sample, draw):
    streams = training_streams(conditioned(sample), draw)
    predicted = velocities(transformer, {modality: each.input for modality, each in streams.items()})
    return training_loss(predicted, streams)


def overfitted(plan, samples, transformer, steps):
    parameters = adapter_parameters(transformer)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for number in range(steps):
        loss = sum(
            each.mean() for each in losses(transformer, samples[number % 4], generator_of("noise", 7, number)).values()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


@torch.no_grad()
def mean_losses(transformer, samples):
    """Per modality, over the same draws of sigma and noise."""
    found = [losses(transformer, sample, generator_of("noise", 99, draw)) for sample in samples for draw in range(8)]
    return {modality: torch.cat([each[modality] for each in found]).mean().item() for modality in found[0]}


def with_reference_of(sample, other):
    references = {key: latent for key, latent in other.latents.items() if key[0] == "reference"}
    return replace(sample, latents=sample.latents | references)


@pytest.mark.parametrize("name", swept(["av2av-masked", "ic-lora/a2a", "ic-lora/av2av"], short=2))
def test_a_reference_that_carries_the_answer_is_really_used(name):
    endpoint = ENDPOINTS[name]
    request = endpoint.read({"training_data_url": "s3://b/clips.zip"})
    plan = endpoint.plan(request, request.bucket)
    transformer = tiny_transformer()
    samples = [pair(plan, number, transformer) for number in range(4)]
    add_adapter(transformer, 32, plan.modalities, seed=0)
    before = mean_losses(transformer, samples)
    overfitted(plan, samples, transformer, steps=120)
    right = mean_losses(transformer, samples)
    shuffled = mean_losses(transformer, [with_reference_of(s, samples[n - 1]) for n, s in enumerate(samples)])
    assert all(right[modality] < 0.7 * before[modality] for modality in plan.modalities)
    assert all(right[modality] < 0.8 * shuffled[modality] for modality in plan.modalities)

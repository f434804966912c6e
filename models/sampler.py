"""Sampler of the previews: latents under a plan's conditions, by Euler steps with guidance, one for all plans.

Source: docs/ltx2.md, section F; tests/golden/sample_*.safetensors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.conditions import condition, source_of, start
from models.ltx2.spec import CHANNELS, LAST_SIGMA, SHIFT, STG_BLOCK
from models.ltx2.transformer import StreamInput, velocities
from models.tokens import Grid, Tokens, latent_of, tokens_of
from schemas.errors import ConditionError
from schemas.media import Bucket, Modality, Role
from schemas.plan import Generated, Plan
from schemas.units import LATENT_CELL, video_steps

Given = Mapping[tuple[Role, Modality], Tensor]
Context = Mapping[Modality, Tensor]
Latents = dict[Modality, Tensor]


@dataclass(frozen=True)
class Guidance:
    """Guidance scales: how strongly previews are pulled to their prompt. A scale that does nothing costs no pass."""

    steps: int = 30
    video_cfg: float = 3.0
    audio_cfg: float = 7.0
    stg: float = 1.0
    rescale: float = 0.7
    modality: float = 3.0  # between sound and picture; a stream alone has none
    stg_block: int = STG_BLOCK

    def cfg(self, modality: Modality) -> float:
        """Scale of the guidance towards the prompt; sound takes a larger one."""
        return self.video_cfg if modality == "video" else self.audio_cfg


@dataclass(frozen=True)
class Passes:
    """Clean tokens as the model sees them in each pass of one step, [B, L, C]; None where a pass was not needed."""

    conditioned: Tensor
    negative: Tensor | None = None
    perturbed: Tensor | None = None
    isolated: Tensor | None = None


@dataclass(frozen=True)
class _Target:
    """One stream to sample: at sigma 1 where it is generated, clean at sigma 0 where it is given."""

    tokens: Tokens
    positive: Tensor
    negative: Tensor
    grid: Grid


def sigma_schedule(steps: int) -> Tensor:
    """Noise levels from 1 to 0, float32 [steps + 1], shifted as for 4096 tokens.

    Source: arXiv 2403.03206 (shift); tests/golden/rules.safetensors, `sigmas.*`.
    """
    if steps == 1:
        return torch.tensor([LAST_SIGMA, 0.0])  # nothing to stretch
    linear = torch.linspace(1, 0, steps + 1)[:-1]
    clean = 1 - math.exp(SHIFT) / (math.exp(SHIFT) + (1 / linear - 1))
    stretched = 1 - clean / (clean[-1] / (1 - LAST_SIGMA))
    return torch.cat([stretched, stretched.new_zeros(1)])


def guide(passes: Passes, guidance: Guidance, modality: Modality) -> Tensor:
    """One prediction out of all passes.

    Returns:
        [B, L, C]: conditioned, plus what sets it apart from each other pass, brought back to 0.7 of its own spread.

    Source: arXiv 2207.12598 (CFG), 2411.18664 (STG), 2305.08891 (rescale); tests/golden/rules.safetensors, `guide.*`.
    """
    conditioned = passes.conditioned
    guided = conditioned
    if passes.negative is not None:
        guided = guided + (guidance.cfg(modality) - 1) * (conditioned - passes.negative)
    if passes.perturbed is not None:
        guided = guided + guidance.stg * (conditioned - passes.perturbed)
    if passes.isolated is not None:
        guided = guided + (guidance.modality - 1) * (conditioned - passes.isolated)
    return guided * (guidance.rescale * conditioned.std() / guided.std() + 1 - guidance.rescale)


def draw_noise(plan: Plan, bucket: Bucket, seed: int) -> Latents:
    """Noise of every stream's target, [1, L, 128] in tokens, from the CPU: the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    lengths = {modality: math.prod(_grid(bucket, modality)) for modality in plan.modalities}
    return {m: torch.randn(1, length, CHANNELS, generator=generator) for m, length in lengths.items()}


@torch.no_grad()
def sample(
    model: nn.Module,
    plan: Plan,
    bucket: Bucket,
    *,
    given: Given,
    positive: Context,
    negative: Context,
    guidance: Guidance,
    noise: Mapping[Modality, Tensor],
    beat: Callable[[], None] = lambda: None,
) -> Latents:
    """Latents of one preview.

    Args:
        model: the transformer, with or without an adapter.
        plan, bucket: what is generated, and of which size.
        given: as in a TrainingSample; a target holds at least the prefix, or all of it under a mask.
        positive, negative: [S, D] text per modality.
        noise: from `draw_noise`.
        beat: called after every step; all of them together take minutes.

    Returns:
        Video [128, F, h, w] and audio [T, 128], float32 on the CPU; what was given comes back exactly.

    Raises:
        ConditionError: what is given does not fit the plan.
    """
    device = next(parameter.device for parameter in model.parameters() if not parameter.is_meta)
    targets: dict[Modality, _Target] = {}
    for modality, stream in plan.streams.items():
        tokens = _beginning(stream, modality, bucket, given, noise[modality].to(device))
        text = positive[modality][None].to(device), negative[modality][None].to(device)
        targets[modality] = _Target(tokens, *text, grid=_grid(bucket, modality))
    sigmas = sigma_schedule(guidance.steps).to(device)
    state = {modality: target.tokens.latent for modality, target in targets.items()}
    for step in range(guidance.steps):
        state = _step(model, targets, state, sigmas[step : step + 2], guidance)
        beat()
    return {m: _target_latent(state[m], m, target.grid) for m, target in targets.items()}


def _target_latent(tokens: Tensor, modality: Modality, grid: Grid) -> Tensor:
    """The target's tokens, behind the reference's, as a latent without batch axis."""
    return latent_of(tokens[:, -math.prod(grid) :], modality, grid)[0].cpu()


def _grid(bucket: Bucket, modality: Modality) -> Grid:
    if modality == "audio":
        return bucket.audio_steps, 1, 1
    if bucket.picture is None:
        raise ConditionError("a plan with video needs a bucket with a picture")
    picture = bucket.picture
    return video_steps(picture.frames), picture.height // LATENT_CELL, picture.width // LATENT_CELL


def _beginning(stream: Generated, modality: Modality, bucket: Bucket, given: Given, noise: Tensor) -> Tokens:
    """The stream at sigma 1, under its conditions."""
    grid, fps = _grid(bucket, modality), bucket.picture.fps if bucket.picture else 1.0
    clean = _known(stream, given.get(("target", modality)), grid, noise)
    source = source_of(given, modality, fps, clean, grid)
    return condition(start(noise, noise.new_ones(1), modality, grid, fps), stream, source)


def _known(stream: Generated, latent: Tensor | None, grid: Grid, noise: Tensor) -> Tensor:
    """Known tokens of the target, [1, L, C], and zeros where none are known: those tokens are generated."""
    per_step = grid[1] * grid[2]
    wanted = (grid[0] if stream.kept.region else stream.kept.opening) * per_step
    clean = torch.zeros_like(noise)
    if latent is None and not wanted:
        return clean
    if latent is None or (latent.ndim == 4 and latent.shape[2:] != grid[1:]):
        raise ConditionError(f"the plan needs a target of {grid} latent cells, and none that fits is given")
    tokens = tokens_of(latent[None].to(noise))[:, : clean.shape[1]]
    if tokens.shape[1] < wanted:
        raise ConditionError(f"the plan keeps {wanted} tokens of its target, and {tokens.shape[1]} are given")
    clean[:, : tokens.shape[1]] = tokens
    return clean


def _step(
    model: nn.Module, targets: Mapping[Modality, _Target], state: Latents, sigmas: Tensor, guidance: Guidance
) -> Latents:
    """One Euler step from sigmas[0] to sigmas[1]."""
    now, following = sigmas
    passes = _passes(model, targets, state, now, guidance)
    stepped: Latents = {}
    for modality, target in targets.items():
        x = state[modality]
        guided = guide(passes[modality], guidance, modality)
        denoised = torch.where(target.tokens.learn[..., None], guided, x)  # given tokens stay as they are
        stepped[modality] = x + (x - denoised) / now * (following - now)
    return stepped


def _passes(
    model: nn.Module, targets: Mapping[Modality, _Target], state: Latents, sigma: Tensor, guidance: Guidance
) -> dict[Modality, Passes]:
    """Predictions of every pass, each at batch size 1: four passes then need no more memory than one."""
    inputs, unwanted = _inputs(targets, state, sigma, "positive"), _inputs(targets, state, sigma, "negative")
    conditioned = _denoised(velocities(model, inputs), inputs)
    negative: dict[Modality, Tensor] = {}
    perturbed: dict[Modality, Tensor] = {}
    isolated: dict[Modality, Tensor] = {}
    if any(guidance.cfg(modality) != 1 for modality in targets):
        negative = _denoised(velocities(model, unwanted), unwanted)
    if guidance.stg:
        skipped = velocities(model, inputs, skip_self_attention=frozenset({guidance.stg_block}))
        perturbed = _denoised(skipped, inputs)
    if len(targets) == 2 and guidance.modality != 1:
        isolated = _denoised(velocities(model, inputs, isolated=True), inputs)
    return {m: Passes(conditioned[m], negative.get(m), perturbed.get(m), isolated.get(m)) for m in targets}


def _inputs(
    targets: Mapping[Modality, _Target], state: Latents, sigma: Tensor, prompt: str
) -> dict[Modality, StreamInput]:
    return {
        m: StreamInput(
            tokens=replace(target.tokens, latent=state[m], sigma=target.tokens.sigma * sigma),
            context=getattr(target, prompt),
            sigma=sigma.expand(1),
        )
        for m, target in targets.items()
    }


def _denoised(velocity: Mapping[Modality, Tensor], inputs: Mapping[Modality, StreamInput]) -> dict[Modality, Tensor]:
    """Each token carried to sigma 0 along its velocity; tokens at sigma 0 are there already."""
    return {m: s.tokens.latent - velocity[m] * s.tokens.sigma[..., None] for m, s in inputs.items()}

"""One forward of our own over diffusers' LTX-2.3 modules: video, sound or both, with the official time inputs.

diffusers 0.42.1 gives the attention between sound and picture other time inputs than the official model does
(docs/ltx2.md, C2) and cannot run one stream alone. Here each stream's scale and shift follow its own tokens' sigma,
the gate follows the other stream's sigma, and a missing stream's weights are never touched: they may stay on meta.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.tokens import Tokens
from schemas.media import Modality

Rotary = tuple[Tensor, Tensor]
Hidden = dict[Modality, Tensor]
BlockRun = Callable[..., Hidden]


@dataclass(frozen=True)
class StreamInput:
    """One modality that the transformer denoises: B clips, L tokens, S text tokens of width D."""

    tokens: Tokens
    context: Tensor  # [B, S, D]  text after the connectors
    sigma: Tensor  # [B]        noise level of the target's noisy tokens


@dataclass(frozen=True)
class _Names:
    """Diffusers' names for the modules of a stream, and the rows of its table for the attention between streams."""

    own: str
    scale_shift: str
    gate: str
    rope: str
    norm: str
    attention: str
    table: str
    asking: tuple[int, int]  # rows (scale, shift) where this stream asks
    asked: tuple[int, int]  # rows (scale, shift) where the other stream asks it


_NAMES: dict[Modality, _Names] = {
    "video": _Names(
        "",
        "av_cross_attn_video_scale_shift",
        "av_cross_attn_video_a2v_gate",
        "cross_attn_rope",
        "audio_to_video_norm",
        "audio_to_video_attn",
        "video_a2v_cross_attn_scale_shift_table",
        asking=(0, 1),
        asked=(2, 3),
    ),
    "audio": _Names(
        "audio_",
        "av_cross_attn_audio_scale_shift",
        "av_cross_attn_audio_v2a_gate",
        "cross_attn_audio_rope",
        "video_to_audio_norm",
        "video_to_audio_attn",
        "audio_a2v_cross_attn_scale_shift_table",
        asking=(2, 3),
        asked=(0, 1),
    ),
}


@dataclass(frozen=True)
class _Crossing:
    """Inputs of one stream to the attention between streams."""

    rotary: Rotary
    times: Tensor  # [B, 2, 4 D]  scale and shift at sigma 0 and at the stream's sigma
    gate: Tensor  # [B, 1, D]    at the other stream's sigma


@dataclass(frozen=True)
class _Stream:
    """Inputs of the blocks for one stream, beside its hidden states."""

    names: _Names
    noisy: Tensor  # [B, L, 1]    bool, False where the token is at sigma 0
    context: Tensor  # [B, S, D]
    rotary: Rotary
    times: Tensor  # [B, 2, 9 D]  modulation at sigma 0 and at the stream's sigma
    prompt_times: Tensor  # [B, 1, 2 D]
    out_times: Tensor  # [B, 2, D]
    crossing: _Crossing | None

    def part(self, of: nn.Module, name: str) -> nn.Module:
        return of.get_submodule(self.names.own + name)

    def table(self, of: nn.Module, name: str) -> Tensor:
        return of.get_parameter(self.names.own + name)


def velocities(
    model: nn.Module,
    streams: dict[Modality, StreamInput],
    *,
    skip_self_attention: frozenset[int] = frozenset(),
    isolated: bool = False,
    recomputed: int = 0,
    run: BlockRun | None = None,
) -> dict[Modality, Tensor]:
    """Predicted noise - clean of every token of the streams present.

    Args:
        model: diffusers' LTX2VideoTransformer3DModel in the shape of LTX-2.3, with or without PEFT layers.
        streams: video, audio or both; each token's sigma is 0 or its stream's sigma.
        skip_self_attention: blocks whose self-attention passes its values through (STG).
        isolated: leave out the attention between the streams (modality guidance).
        recomputed: how many of the first blocks are computed once more in the backward pass instead of being
            remembered. The first, because the memory of the later ones is free again by then.
        run: `run_block`, or the same compiled.

    Returns:
        float32 [B, L, 128] per stream, in the order of the given tokens, reference tokens included.

    Source: docs/ltx2.md, section C2, row 1; arXiv 2601.03233 (LTX-2), section on the two-stream transformer.
    """
    run = run or run_block
    crossed = len(streams) == 2 and not isolated
    hidden = {modality: _projected(model, modality, stream) for modality, stream in streams.items()}
    prepared = {
        modality: _prepare(model, modality, stream, hidden[modality].dtype, _other_sigma(streams, modality, crossed))
        for modality, stream in streams.items()
    }
    for index, block in enumerate(model.get_submodule("transformer_blocks").children()):
        if index < recomputed and torch.is_grad_enabled():
            skip = index in skip_self_attention
            hidden = checkpoint(run, block, hidden, prepared, skip, use_reentrant=False, preserve_rng_state=False)
        else:
            hidden = run(block, hidden, prepared, index in skip_self_attention)
    return {modality: _output(model, hidden[modality], prepared[modality]).float() for modality in streams}


def _other_sigma(streams: dict[Modality, StreamInput], modality: Modality, crossed: bool) -> Tensor | None:
    return next((s.sigma for m, s in streams.items() if m != modality), None) if crossed else None


def _projected(model: nn.Module, modality: Modality, stream: StreamInput) -> Tensor:
    project = getattr(model, _NAMES[modality].own + "proj_in")
    projected: Tensor = project(stream.tokens.latent.to(project.weight.dtype))
    return projected


def _prepare(
    model: nn.Module, modality: Modality, stream: StreamInput, dtype: torch.dtype, other_sigma: Tensor | None
) -> _Stream:
    """Time embeddings at the two sigmas that occur, and rotary embeddings of the positions."""
    names, config = _NAMES[modality], dict(model.config)  # type: ignore[arg-type]
    position, sigma = stream.tokens.position, stream.sigma.float()
    both = torch.stack([torch.zeros_like(sigma), sigma], dim=1) * config["timestep_scale_multiplier"]
    times, out_times = _embedded(getattr(model, names.own + "time_embed"), both, dtype)
    prompt_times, _ = _embedded(getattr(model, names.own + "prompt_adaln"), both[:, 1:], dtype)
    crossing = None
    if other_sigma is not None:
        at_gate = other_sigma.float()[:, None] * config["cross_attn_timestep_scale_multiplier"]
        crossing = _Crossing(
            rotary=getattr(model, names.rope)(position[:, :1]),
            times=_embedded(getattr(model, names.scale_shift), both, dtype)[0],
            gate=_embedded(getattr(model, names.gate), at_gate, dtype)[0],
        )
    return _Stream(
        names=names,
        noisy=(stream.tokens.sigma > 0)[..., None],
        context=stream.context.to(dtype),
        rotary=getattr(model, names.own + "rope")(position),
        times=times,
        prompt_times=prompt_times,
        out_times=out_times,
        crossing=crossing,
    )


def _embedded(module: nn.Module, times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[B, K] model times -> ([B, K, k D] modulation, [B, K, D] the embedding it was made from)."""
    modulation, embedding = module(times.flatten(), batch_size=times.shape[0], hidden_dtype=dtype)
    return modulation.unflatten(0, times.shape), embedding.unflatten(0, times.shape)


def run_block(block: nn.Module, hidden: Hidden, streams: dict[Modality, _Stream], skip: bool) -> Hidden:
    """One block, all streams; `skip` passes the values of self-attention through."""
    hidden = {m: _attend(block, hidden[m], stream, skip) for m, stream in streams.items()}
    if all(stream.crossing for stream in streams.values()):
        hidden = _cross(block, hidden, streams)
    return {m: _feed_forward(block, hidden[m], stream) for m, stream in streams.items()}


def _attend(block: nn.Module, x: Tensor, stream: _Stream, skip: bool) -> Tensor:
    """Self-attention, then attention to the text."""
    rows, noisy = _rows(stream.table(block, "scale_shift_table"), stream.times), stream.noisy
    own = _modulated(stream.part(block, "norm1")(x), rows, 1, 0, noisy)
    attended = _attention(stream.part(block, "attn1"), own, query_rotary_emb=stream.rotary, all_perturbed=skip)
    x = x + attended * _at_tokens(rows, 2, noisy)
    shift, scale = _rows(stream.table(block, "prompt_scale_shift_table"), stream.prompt_times).unbind(2)
    asking = _modulated(stream.part(block, "norm2")(x), rows, 7, 6, noisy)
    attended = _attention(
        stream.part(block, "attn2"), asking, encoder_hidden_states=stream.context * (1 + scale) + shift
    )
    answered: Tensor = x + attended * _at_tokens(rows, 8, noisy)
    return answered


def _attention(module: nn.Module, x: Tensor, **more: object) -> Tensor:
    """The module's forward without its look at the processor's signature, which shows at 96 calls a step."""
    attended: Tensor = module.processor(module, x, **more)  # type: ignore[operator]
    return attended


def _cross(block: nn.Module, hidden: Hidden, streams: dict[Modality, _Stream]) -> Hidden:
    """Attention between the streams: each sees the other as the other was before this step."""
    asking: Hidden = {}
    asked: Hidden = {}
    gates: Hidden = {}
    rotary: dict[Modality, Rotary] = {}
    for modality, stream in streams.items():
        names, crossing = stream.names, stream.crossing
        assert crossing is not None
        table = block.get_parameter(names.table)
        rows = _rows(table[:4], crossing.times)
        normed = block.get_submodule(names.norm)(hidden[modality])
        asking[modality] = _modulated(normed, rows, *names.asking, stream.noisy)
        asked[modality] = _modulated(normed, rows, *names.asked, stream.noisy)
        gates[modality] = table[4] + crossing.gate
        rotary[modality] = crossing.rotary
    crossed: Hidden = {}
    for modality, stream in streams.items():
        other: Modality = "audio" if modality == "video" else "video"
        answer = _attention(
            block.get_submodule(stream.names.attention),
            asking[modality],
            encoder_hidden_states=asked[other],
            query_rotary_emb=rotary[modality],
            key_rotary_emb=rotary[other],
        )
        crossed[modality] = hidden[modality] + gates[modality] * answer
    return crossed


def _feed_forward(block: nn.Module, x: Tensor, stream: _Stream) -> Tensor:
    rows = _rows(stream.table(block, "scale_shift_table"), stream.times)
    fed = stream.part(block, "ff")(_modulated(stream.part(block, "norm3")(x), rows, 4, 3, stream.noisy))
    result: Tensor = x + fed * _at_tokens(rows, 5, stream.noisy)
    return result


def _output(model: nn.Module, x: Tensor, stream: _Stream) -> Tensor:
    rows = stream.table(model, "scale_shift_table") + stream.out_times[:, :, None]
    projected: Tensor = stream.part(model, "proj_out")(
        _modulated(stream.part(model, "norm_out")(x), rows, 1, 0, stream.noisy)
    )
    return projected


def _rows(table: Tensor, times: Tensor) -> Tensor:
    """A block's own [k, D] rows plus the time's [B, K, k D] -> [B, K, k, D]."""
    return table + times.reshape(*times.shape[:-1], *table.shape)


def _at_tokens(rows: Tensor, row: int, noisy: Tensor) -> Tensor:
    """One row chosen for each token: [B, 2, k, D] -> [B, L, D]. Never all rows at once: that would be [B, L, 9 D]."""
    return torch.where(noisy, rows[:, 1:, row], rows[:, :1, row])


def _modulated(x: Tensor, rows: Tensor, scale: int, shift: int, noisy: Tensor) -> Tensor:
    return x * (1 + _at_tokens(rows, scale, noisy)) + _at_tokens(rows, shift, noisy)

"""Our forward against diffusers' own, where the two agree; and what it promises beside."""

import pytest
import torch

from models.ltx2.geometry import audio_positions, video_positions
from models.ltx2.transformer import StreamInput, velocities
from models.tokens import Tokens
from tests.support.tensors import golden_model, tiny_transformer

SIZES = {"video": (12, 32), "audio": (7, 16)}


def stream(kind, given=3, seed=0, width=None):
    draw = torch.Generator().manual_seed(seed)
    length, text = SIZES[kind]
    sigma = torch.tensor([0.3, 0.8])
    level = sigma[:, None].repeat(1, length)
    level[:, :given] = 0
    position = video_positions(3, 2, 2, 25.0) if kind == "video" else audio_positions(length)
    tokens = Tokens(torch.randn(2, length, 128, generator=draw), level, position.expand(2, -1, -1, -1), level > 0)
    return StreamInput(tokens, torch.randn(2, 5, width or text, generator=draw), sigma)


def by_diffusers(model, streams, **how):
    """diffusers' forward; a stream that is not there becomes one dummy token that the other does not see."""
    nothing = {"video": torch.zeros(2, 3, 1, 2), "audio": torch.zeros(2, 1, 1, 2)}
    arguments = {"isolate_modalities": len(streams) == 1, "return_dict": False, **how}
    for kind, p in (("video", ""), ("audio", "audio_")):
        s = streams.get(kind)
        text = torch.zeros(2, 1, SIZES[kind][1])
        arguments[f"{p}hidden_states"] = s.tokens.latent if s else torch.zeros(2, 1, 128)
        arguments[f"{p}encoder_hidden_states"] = s.context if s else text
        arguments[f"{p}timestep"] = s.tokens.sigma * 1000 if s else torch.zeros(2, 1)
        arguments[f"{p}sigma"] = s.sigma * 1000 if s else torch.zeros(2)
        arguments[f"{kind}_coords"] = s.tokens.position if s else nothing[kind]
    return dict(zip(("video", "audio"), model(**arguments), strict=True))


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("skip", [(), (1,)])
def test_one_stream_alone_is_diffusers_with_the_other_isolated(kind, skip):
    streams = {kind: stream(kind)}
    theirs = by_diffusers(golden_model(), streams, spatio_temporal_guidance_blocks=list(skip))
    ours = velocities(golden_model(), streams, skip_self_attention=frozenset(skip))
    assert set(ours) == {kind}
    torch.testing.assert_close(ours[kind], theirs[kind], rtol=0, atol=5e-5)


def test_isolated_streams_are_those_of_diffusers():
    streams = {kind: stream(kind) for kind in SIZES}
    theirs = by_diffusers(golden_model(), streams, isolate_modalities=True)
    ours = velocities(golden_model(), streams, isolated=True)
    for kind in SIZES:
        torch.testing.assert_close(ours[kind], theirs[kind], rtol=0, atol=5e-5)


def test_both_streams_agree_with_diffusers_where_its_time_inputs_are_the_official_ones():
    video, audio = stream("video", given=0), stream("audio", given=0)
    theirs = by_diffusers(golden_model(), {"video": video, "audio": audio})
    ours = velocities(golden_model(), {"video": video, "audio": audio})
    for kind in SIZES:
        torch.testing.assert_close(ours[kind], theirs[kind], rtol=0, atol=5e-5)


def test_recomputing_changes_no_gradient():
    model = tiny_transformer()
    weight = model.transformer_blocks[0].attn1.to_q.weight.requires_grad_(True)
    streams = {"video": stream("video", width=64), "audio": stream("audio", width=32)}
    gradients = []
    for recomputed in (0, 1, 2):
        predicted = velocities(model, streams, recomputed=recomputed)
        gradients += torch.autograd.grad(sum(each.square().sum() for each in predicted.values()), weight)
    assert gradients[0].abs().sum() > 0
    assert gradients[0].equal(gradients[1]) and gradients[0].equal(gradients[2])

"""The adapter: where it attaches, and the file that users load."""

import pytest
import torch
from diffusers import LTX2Pipeline, LTX2VideoTransformer3DModel

from models.ltx2.adapter import (
    adapter_parameters,
    add_adapter,
    export,
    file_bytes,
    load_into,
    lora_metadata,
    read,
    save,
    targets,
)
from models.ltx2.transformer import velocities
from models.noise import generator_of
from schemas.plan import Plan, Reference, generate
from tests.models.ltx2.test_transformer import stream
from tests.support.tensors import tiny_base, tiny_transformer

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def with_adapter(*modalities, rank=4, seed=0):
    """A tiny transformer whose adapter is no longer zero."""
    transformer = tiny_transformer(*modalities)
    add_adapter(transformer, rank, modalities, seed)
    draw = torch.Generator().manual_seed(1)
    for weight in adapter_parameters(transformer):
        if weight.eq(0).all():
            weight.data = 0.1 * torch.randn(weight.shape, generator=draw).bfloat16().float()
        weight.data = weight.data.bfloat16().float()  # as the file holds it
    return transformer


def test_sound_alone_adapts_its_attention_and_feed_forward():
    attention = [f"{module}.{projection}" for module in ("audio_attn1", "audio_attn2") for projection in PROJECTIONS]
    assert targets(("audio",)) == (*attention, "audio_ff.net.0.proj", "audio_ff.net.2")


def test_video_alone_adapts_its_attention():
    assert targets(("video",)) == tuple(f"{module}.{p}" for module in ("attn1", "attn2") for p in PROJECTIONS)


def test_both_streams_adapt_all_six_attentions():
    modules = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
    assert targets(("video", "audio")) == tuple(f"{module}.{p}" for module in modules for p in PROJECTIONS)


def test_a_fresh_adapter_is_reproducible_and_changes_nothing():
    first, again, other = tiny_transformer(), tiny_transformer(), tiny_transformer()
    for transformer, seed in ((first, 1), (again, 1), (other, 2)):
        add_adapter(transformer, 4, ("video", "audio"), seed)
        torch.rand(3)
    keys = export(first)
    assert all(weight.equal(export(again)[key]) for key, weight in keys.items())
    assert not keys["diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight"].equal(
        export(other)["diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight"]
    )
    inputs = {"video": stream("video", width=64), "audio": stream("audio", width=32)}
    assert velocities(first, inputs)["video"].equal(velocities(tiny_transformer(), inputs)["video"])


def test_the_adapter_shares_no_randomness_with_the_noise_of_any_step():
    transformer = tiny_transformer("audio")
    add_adapter(transformer, 4, ("audio",), seed=7)
    for number, drawn in enumerate(parameter for parameter in adapter_parameters(transformer) if parameter.any()):
        noise = torch.empty(drawn.shape).uniform_(-1, 1, generator=generator_of("noise", 7, 2 * number))
        assert torch.corrcoef(torch.stack([drawn.detach().flatten(), noise.flatten()]))[0, 1].abs() < 0.5


def test_a_is_drawn_within_its_bound_and_b_is_zero():
    transformer = tiny_transformer()
    add_adapter(transformer, 8, ("video", "audio"), 0)
    written = export(transformer)
    a = written["diffusion_model.transformer_blocks.1.attn1.to_q.lora_A.weight"].float()
    assert 0.9 / 8 < a.abs().max() <= 1.01 / 8  # 1 / sqrt(64 inputs)
    assert all(weight.eq(0).all() for key, weight in written.items() if ".lora_B." in key)


def test_only_the_adapter_is_trained_in_float32_on_a_bfloat16_base():
    transformer = tiny_transformer().to(torch.bfloat16)
    add_adapter(transformer, 4, ("video", "audio"), 0)
    trained = [weight for weight in transformer.parameters() if weight.requires_grad]
    assert len(trained) == len(adapter_parameters(transformer)) == 2 * 24 * 2
    assert {weight.dtype for weight in trained} == {torch.float32}
    inputs = {"video": stream("video", width=64), "audio": stream("audio", width=32)}
    velocities(transformer, inputs)["video"].sum().backward()
    assert transformer.transformer_blocks[0].attn1.to_q.lora_B["default"].weight.grad.abs().sum() > 0


def test_an_absent_stream_gets_no_adapter():
    transformer = with_adapter("audio")
    assert not any(weight.is_meta for weight in adapter_parameters(transformer))
    assert all(".audio_attn" in key or ".audio_ff." in key for key in export(transformer))


def test_the_file_has_official_keys_in_bfloat16_and_no_alpha(tmp_path):
    save(export(with_adapter("video", "audio")), tmp_path / "lora.safetensors", {})
    tensors, metadata = read(tmp_path / "lora.safetensors")
    modules = [f"{block}.{target}" for block in (0, 1) for target in targets(("video", "audio"))]
    sides = ("lora_A", "lora_B")
    assert set(tensors) == {f"diffusion_model.transformer_blocks.{m}.{side}.weight" for m in modules for side in sides}
    assert {weight.dtype for weight in tensors.values()} == {torch.bfloat16}
    assert metadata == {}
    assert (tmp_path / "lora.safetensors").stat().st_size == file_bytes(tiny_transformer(), 4, ("video", "audio"))


def test_the_file_of_the_real_model_at_rank_32_has_428150680_bytes():
    with torch.device("meta"):
        real = LTX2VideoTransformer3DModel(
            gated_attn=True, cross_attn_mod=True, audio_gated_attn=True, audio_cross_attn_mod=True,
            use_prompt_embeddings=False, perturbed_attn=True, rope_type="split",
        )  # fmt: skip
    assert sum(weight.numel() for weight in real.parameters()) == 18_988_838_144
    assert file_bytes(real, 32, ("video", "audio")) == 428_150_680


def test_a_written_adapter_comes_back():
    trained, fresh = with_adapter("video", "audio"), tiny_transformer()
    load_into(fresh, export(trained))
    inputs = {"video": stream("video", width=64), "audio": stream("audio", width=32)}
    assert velocities(fresh, inputs)["audio"].equal(velocities(trained, inputs)["audio"])
    assert not velocities(tiny_transformer(), inputs)["audio"].equal(velocities(trained, inputs)["audio"])


@pytest.mark.parametrize("modalities", [("audio",), ("video",), ("video", "audio")])
def test_diffusers_loads_the_file_and_changes_as_peft_does(modalities, tmp_path):
    trained = with_adapter(*modalities)
    save(export(trained), tmp_path / "lora.safetensors", {"reference_downscale_factor": "2"})
    pipeline = LTX2Pipeline.from_pretrained(tiny_base(), local_files_only=True)
    inputs = {kind: stream(kind, width=width) for kind, width in (("video", 64), ("audio", 32)) if kind in modalities}
    before = velocities(pipeline.transformer, inputs)
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"))
    after, ours = velocities(pipeline.transformer, inputs), velocities(trained, inputs)
    for kind in modalities:
        assert not after[kind].equal(before[kind])
        torch.testing.assert_close(after[kind], ours[kind], rtol=0, atol=1e-6)


def test_factors_other_than_one_are_written_to_the_metadata():
    half = Plan(video=generate(Reference(downscale=2, temporal_scale=4)))
    assert lora_metadata(half) == {
        "reference_downscale_factor": "2",
        "reference_spatial_scale_factor": "2",
        "reference_temporal_scale_factor": "4",
    }
    assert lora_metadata(Plan(video=generate(Reference()), audio=generate(Reference()))) == {}
    assert lora_metadata(Plan(audio=generate(Reference()))) == {}

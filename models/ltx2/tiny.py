"""A tiny base model: the real classes of LTX-2.3 with narrow, random weights, for demos and tests.

Widths shrink; latents, tokens, positions and the file layout stay those of the real model. All outputs are noise.
"""

import hashlib
import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2VocoderWithBWE
from torch import nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GemmaTokenizer

SEED = 0
CHECKSUMS = "checksums.json"
HEADS, VIDEO_HEAD, AUDIO_HEAD, LAYERS = 4, 16, 8, 2  # real: 32, 128, 64, 48
TEXT_WIDTH, TEXT_LAYERS, TEXT_TOKENS = 32, 2, 1024  # real: 3840, 48, 1024


def build(folder: Path) -> None:
    """Write the bundle in diffusers' layout: identical files each time, and the caller's random state is untouched.

    Checksums are written beside the files, so that a bundle cut short by a power cut is not taken for a whole one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tokenizer = _tokenizer()
        pipeline = LTX2Pipeline(
            scheduler=_scheduler(),
            tokenizer=tokenizer,
            text_encoder=_text_encoder(len(tokenizer)),
            connectors=_connectors(),
            transformer=_transformer(),
            vae=_with_statistics(_video_vae()),
            audio_vae=_with_statistics(_audio_vae()),
            vocoder=_vocoder(),
        )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder), indent=1))


def is_whole(folder: Path) -> bool:
    """Whether all files of a bundle have the content that was written."""
    try:
        return bool(json.loads((folder / CHECKSUMS).read_text()) == _checksums(folder))
    except (FileNotFoundError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _tokenizer() -> GemmaTokenizer:
    """Gemma's special tokens, all bytes and printable ASCII: byte fallback brings any text back unchanged."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *(chr(code) for code in range(33, 127))]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return GemmaTokenizer(vocab=vocab, merges=[], add_bos_token=True, model_max_length=TEXT_TOKENS, padding_side="left")


def _text_encoder(vocab_size: int) -> nn.Module:
    text = {
        "vocab_size": vocab_size,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "sliding_window": 512,
        "query_pre_attn_scalar": 16,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    special = {"mm_tokens_per_image": 4, "boi_token_index": 3, "eoi_token_index": 3, "image_token_index": 4}
    encoder: nn.Module = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **special))
    return encoder


def _connectors() -> nn.Module:
    connectors: nn.Module = LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=TEXT_LAYERS + 1,
        video_connector_num_attention_heads=HEADS,
        video_connector_attention_head_dim=VIDEO_HEAD,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=16,
        video_gated_attn=True,
        audio_connector_num_attention_heads=HEADS,
        audio_connector_attention_head_dim=AUDIO_HEAD,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=16,
        audio_gated_attn=True,
        connector_rope_base_seq_len=4096,
        rope_double_precision=True,
        rope_type="split",
        per_modality_projections=True,
        video_hidden_dim=HEADS * VIDEO_HEAD,
        audio_hidden_dim=HEADS * AUDIO_HEAD,
        proj_bias=True,
    )
    return connectors


def _transformer() -> nn.Module:
    transformer: nn.Module = LTX2VideoTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=VIDEO_HEAD,
        cross_attention_dim=HEADS * VIDEO_HEAD,
        audio_num_attention_heads=HEADS,
        audio_attention_head_dim=AUDIO_HEAD,
        audio_cross_attention_dim=HEADS * AUDIO_HEAD,
        num_layers=LAYERS,
        gated_attn=True,
        cross_attn_mod=True,
        audio_gated_attn=True,
        audio_cross_attn_mod=True,
        rope_type="split",
        rope_double_precision=True,
        use_prompt_embeddings=False,
        perturbed_attn=True,
        cross_attn_timestep_scale_multiplier=1000,
    )
    return transformer


def _video_vae() -> nn.Module:
    vae: nn.Module = AutoencoderKLLTX2Video(
        latent_channels=128,
        block_out_channels=(8, 16, 32, 32),
        down_block_types=("LTX2VideoDownBlock3D",) * 4,
        decoder_block_out_channels=(8, 16, 16, 32),
        layers_per_block=(0, 1, 1, 1, 1),  # none at first: they are as wide as the latents
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True,) * 4,
        decoder_spatio_temporal_scaling=(True,) * 4,
        decoder_inject_noise=(False,) * 5,
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        upsample_type=("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
        upsample_residual=(False,) * 4,
        upsample_factor=(2, 2, 1, 2),
        timestep_conditioning=False,
        encoder_causal=True,
        decoder_causal=False,
        encoder_spatial_padding_mode="zeros",
        decoder_spatial_padding_mode="zeros",
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    return vae


def _audio_vae() -> nn.Module:
    vae: nn.Module = AutoencoderKLLTX2Audio(
        base_channels=128,  # also the size of the statistics: 8 x 16 features, so it cannot shrink
        output_channels=2,
        ch_mult=(1, 1, 1),
        num_res_blocks=1,
        in_channels=2,
        resolution=256,
        latent_channels=8,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=64,
        double_z=True,
    )
    return vae


def _vocoder() -> nn.Module:
    vocoder: nn.Module = LTX2VocoderWithBWE(
        hidden_channels=64,
        upsample_kernel_sizes=[11, 4, 4, 4, 4, 4],
        upsample_factors=[5, 2, 2, 2, 2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
        bwe_hidden_channels=32,
        bwe_resnet_kernel_sizes=[3],
        bwe_resnet_dilations=[[1]],
    )
    return vocoder


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )


@torch.no_grad()
def _with_statistics(vae: nn.Module) -> nn.Module:
    """A VAE with channel statistics away from the identity, as in a real checkpoint: a missed normalisation shows."""
    mean, std = vae.get_buffer("latents_mean"), vae.get_buffer("latents_std")
    mean.copy_(0.1 * torch.randn_like(mean))
    std.copy_(1 + 0.2 * torch.rand_like(std))
    return vae

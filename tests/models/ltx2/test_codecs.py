"""Frames, sound and prompts to latents and back, with the tiny base."""

from functools import lru_cache

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from models.ltx2.codecs import AudioDecoder, AudioEncoder, TextEncoder, VideoDecoder, VideoEncoder
from models.ltx2.loading import load_audio_vae, load_text, load_video_vae, load_vocoder
from models.ltx2.mel import log_mel
from models.weights.lora_linear import StoredLinear
from tests.support.tensors import CPU, tiny_base


@lru_cache(maxsize=1)
def video_vae():
    return load_video_vae(tiny_base(), CPU, torch.float32)


@lru_cache(maxsize=1)
def audio_vae():
    return load_audio_vae(tiny_base(), CPU)


@lru_cache(maxsize=1)
def text_encoder():
    return TextEncoder(*load_text(tiny_base(), CPU, torch.float32))


def frames(count):
    return torch.randint(0, 256, (count, 64, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def sound(samples):
    return torch.rand(2, samples, generator=torch.Generator().manual_seed(0)) - 0.5


def test_a_tone_sounds_in_its_band():
    time = torch.arange(16_000) / 16_000
    tones = torch.stack([torch.sin(2 * torch.pi * 440 * time), 0.1 * torch.sin(2 * torch.pi * 3000 * time)])
    mel = log_mel(tones[None])
    assert mel.shape == (1, 2, 101, 64)
    # peaks lie 45.25 / 65 = 0.696 mel apart: 440 Hz is 6.6 mel, the 9th; 3000 Hz 31.0 mel, the 44th
    assert mel[0, :, 50].argmax(-1).tolist() == [8, 43]
    assert mel[0, 0, 50, 8].item() == pytest.approx(1.7789, abs=1e-4)  # official (docs/ltx2.md, section G)
    assert mel.min().item() == pytest.approx(-11.5129, abs=1e-3)  # log(1e-5)


def test_frames_become_normalised_latents():
    latent = VideoEncoder(video_vae()).encode(frames(17))
    assert latent.shape == (128, 3, 2, 1) and latent.dtype == torch.float32
    pixels = frames(17).permute(3, 0, 1, 2)[None] / 127.5 - 1
    plain = video_vae().encode(pixels).latent_dist.mode()[0]
    back = latent * video_vae().latents_std[:, None, None, None] + video_vae().latents_mean[:, None, None, None]
    torch.testing.assert_close(back, plain)


def test_a_video_prefix_encoded_alone_is_the_prefix_of_the_whole():
    encoder = VideoEncoder(video_vae())
    torch.testing.assert_close(encoder.encode(frames(17))[:, :2], encoder.encode(frames(17)[:9]), rtol=0, atol=1e-4)


def test_latents_become_frames_again():
    decoded = VideoDecoder(video_vae()).decode(torch.randn(128, 3, 2, 1, generator=torch.Generator().manual_seed(0)))
    assert decoded.shape == (17, 64, 32, 3) and decoded.dtype == torch.uint8
    assert decoded.float().std() > 0


@pytest.mark.parametrize(("samples", "steps"), [(16_000, 26), (4_000, 7)])
def test_sound_becomes_normalised_latents(samples, steps):
    encoder = AudioEncoder(audio_vae())
    latent = encoder.encode(sound(samples))
    assert latent.shape == (steps, 128) and encoder.sample_rate == 16_000
    plain = audio_vae().encode(log_mel(sound(samples)[None])).latent_dist.mode()[0]  # [8, T, 16]
    back = latent * audio_vae().latents_std + audio_vae().latents_mean
    torch.testing.assert_close(back[:, 16:32], plain[1])  # feature c * 16 + f


def test_latents_become_48_khz_sound():
    decoder = AudioDecoder(audio_vae(), load_vocoder(tiny_base(), CPU))
    waveform = decoder.decode(torch.randn(7, 128, generator=torch.Generator().manual_seed(0)))
    assert decoder.sample_rate == 48_000
    assert waveform.shape == (2, (4 * 7 - 3) * 480) and waveform.dtype == torch.float32
    assert waveform.std() > 0


def test_a_prompt_becomes_text_for_both_streams():
    text = text_encoder().encode("  a cat plays the piano  ")
    assert text["video"].shape == (1024, 64) and text["audio"].shape == (1024, 32)
    assert text_encoder().encode("a cat plays the piano")["video"].equal(text["video"])
    assert not text_encoder().encode("a dog")["video"].equal(text["video"])


@pytest.mark.parametrize("prompt", ["", "Grüße, 世界 🎹", "word " * 2000])
def test_any_prompt_can_be_encoded(prompt):
    assert text_encoder().encode(prompt)["audio"].isfinite().all()


def test_a_prompt_begins_with_the_mark_of_a_beginning_whatever_its_tokenizer_does(tmp_path):
    tokenizer, *models = load_text(tiny_base(), CPU, torch.float32)
    tokenizer.save_pretrained(tmp_path)
    bare = AutoTokenizer.from_pretrained(tmp_path)
    bare._tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert bare("a cat").input_ids == tokenizer("a cat").input_ids[1:]
    for prompt in ("a cat", "", "word " * 2000):
        said = [TextEncoder(each, *models).encode(prompt)["video"] for each in (bare, tokenizer)]
        assert said[0].equal(said[1])


def test_gemma_in_8_bits_says_nearly_the_same_and_its_connectors_stay_whole():
    whole, small = (TextEncoder(*load_text(tiny_base(), CPU, torch.float32, kept_as)) for kept_as in ("bf16", "int8"))
    kept = [module for module in small.text_encoder.modules() if isinstance(module, StoredLinear)]
    assert kept and not [module for module in small.connectors.modules() if isinstance(module, StoredLinear)]
    said, exact = small.encode("a red ball")["video"], whole.encode("a red ball")["video"]
    assert not said.equal(exact)
    torch.testing.assert_close(said, exact, rtol=0, atol=0.1 * exact.abs().max().item())

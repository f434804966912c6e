"""Encoders and decoders: frames, sound and prompts -> normalised latents and text features, and latents back."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.ltx2.mel import log_mel
from models.ltx2.spec import SAMPLE_RATE, TEXT_TOKENS
from schemas.media import Modality

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class VideoEncoder:
    """Pixel frames -> video latents."""

    def __init__(self, vae: nn.Module) -> None:
        self.vae = vae
        self.weight = next(vae.parameters())

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """One clip through the VAE, at its mode, normalised per channel.

        Args:
            frames: uint8 [F, H, W, 3] on the CPU; F = 8k + 1, H and W multiples of 32.

        Returns:
            float32 [128, k + 1, H / 32, W / 32] on the CPU.

        Source: docs/ltx2.md, section G.
        """
        pixels = frames.permute(3, 0, 1, 2)[None].to(self.weight.device, torch.float32) / 127.5 - 1
        latent: Tensor = self.vae.encode(pixels.to(self.weight.dtype)).latent_dist.mode()  # type: ignore[operator]
        mean, std = (self.vae.get_buffer(name)[:, None, None, None] for name in ("latents_mean", "latents_std"))
        return ((latent.float() - mean.float()) / std.float())[0].cpu()


class AudioEncoder:
    """A waveform -> audio latents."""

    sample_rate = SAMPLE_RATE

    def __init__(self, audio_vae: nn.Module) -> None:
        self.vae = audio_vae
        self.device = next(audio_vae.parameters()).device

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """One clip through log-mel and the VAE, at its mode, normalised per packed feature.

        Args:
            waveform: float32 [2, N] at 16 kHz, N > 512.

        Returns:
            float32 [T, 128] on the CPU, T = ceil((N // 160 + 1) / 4): often one more than 25 per second.

        Source: docs/ltx2.md, section G.
        """
        mel = log_mel(waveform[None].to(self.device, torch.float32))
        latent: Tensor = self.vae.encode(mel).latent_dist.mode()  # type: ignore[operator]
        packed = latent.transpose(1, 2).flatten(2)  # [1, 8, T, 16] -> [1, T, 128], feature c * 16 + f
        normalised = (packed - self.vae.get_buffer("latents_mean")) / self.vae.get_buffer("latents_std")
        return normalised[0].float().cpu()


class TextEncoder:
    """A prompt -> the text features that each stream attends to."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", text_encoder: nn.Module, connectors: nn.Module) -> None:
        self.tokenizer, self.text_encoder, self.connectors = tokenizer, text_encoder, connectors
        self.device = next(text_encoder.parameters()).device
        tokenizer.padding_side = "left"

    @torch.no_grad()
    def encode(self, prompt: str) -> dict[Modality, Tensor]:
        """All hidden states of the text encoder through the connectors.

        Returns:
            [S, D] per modality on the CPU, in the dtype of the connectors. S is always 1024: the
            connectors fill what the prompt leaves with registers, which are text like the rest.

        Source: docs/ltx2.md, sections A and E.
        """
        words = self.tokenizer.pad(
            {"input_ids": [self._words(prompt)]}, padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt"
        ).to(self.device)
        layers = self.text_encoder(
            input_ids=words.input_ids, attention_mask=words.attention_mask, output_hidden_states=True, logits_to_keep=1
        ).hidden_states
        video, audio, _ = self.connectors(torch.stack(layers, dim=-1), words.attention_mask)
        return {"video": video[0].cpu(), "audio": audio[0].cpu()}

    def _words(self, prompt: str) -> list[int]:
        """Token ids of a prompt: at most 1024, the start token first, which some tokenizers leave out."""
        words: list[int] = self.tokenizer(prompt.strip(), add_special_tokens=True).input_ids
        beginning = self.tokenizer.bos_token_id
        if words[:1] != [beginning]:
            words = [beginning, *words]
        return words[:TEXT_TOKENS]


class VideoDecoder:
    """Video latents -> pixel frames."""

    def __init__(self, vae: nn.Module) -> None:
        self.vae = vae
        self.weight = next(vae.parameters())

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Normalised latents [128, k + 1, h, w] -> uint8 [8k + 1, 32 h, 32 w, 3] on the CPU."""
        mean, std = (self.vae.get_buffer(name)[:, None, None, None] for name in ("latents_mean", "latents_std"))
        plain = latent.to(self.weight.device, torch.float32) * std.float() + mean.float()
        pixels: Tensor = self.vae.decode(plain[None].to(self.weight.dtype)).sample[0]  # type: ignore[operator]
        scaled = (pixels.float() + 1) * 127.5
        return scaled.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).cpu()


class AudioDecoder:
    """Audio latents -> a waveform."""

    def __init__(self, audio_vae: nn.Module, vocoder: nn.Module) -> None:
        self.vae, self.vocoder = audio_vae, vocoder
        self.device = next(audio_vae.parameters()).device
        self.sample_rate: int = dict(vocoder.config)["output_sampling_rate"]  # type: ignore[arg-type]

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Normalised latents [T, 128] -> float32 [2, (4 T - 3) * 480] at 48 kHz on the CPU.

        The waveform is a little shorter than T / 25 seconds (docs/ltx2.md, G): pad or trim where a length is promised.
        """
        waveform: Tensor = self.vocoder(decoded_mel(self.vae, latent))[0]
        return waveform.float().cpu()


@torch.no_grad()
def decoded_mel(audio_vae: nn.Module, latent: Tensor) -> Tensor:
    """Normalised latents [T, 128] -> log-mel [1, 2, 4 T - 3, 64], where the VAE is: what the vocoder makes sound of."""
    plain = latent.to(next(audio_vae.parameters()).device, torch.float32)
    plain = plain * audio_vae.get_buffer("latents_std") + audio_vae.get_buffer("latents_mean")
    unpacked = plain[None].reshape(1, plain.shape[0], 8, 16).transpose(1, 2)  # feature c * 16 + f
    mel: Tensor = audio_vae.decode(unpacked).sample  # type: ignore[operator]
    return mel

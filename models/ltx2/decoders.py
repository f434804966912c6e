"""Latents -> frames and sound, for previews."""

import torch
from torch import Tensor, nn


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

        That is a little shorter than T / 25 seconds (facts/ltx23.md, G): pad or trim where a length is promised.
        """
        plain = latent.to(self.device, torch.float32)
        plain = plain * self.vae.get_buffer("latents_std") + self.vae.get_buffer("latents_mean")
        unpacked = plain[None].reshape(1, plain.shape[0], 8, 16).transpose(1, 2)  # feature c * 16 + f
        waveform: Tensor = self.vocoder(self.vae.decode(unpacked).sample)[0]  # type: ignore[operator]
        return waveform.float().cpu()

"""Log-mel of a waveform, as the audio VAE of LTX-2.3 reads it. diffusers offers none."""

import math
from functools import lru_cache

import torch
from torch import Tensor

SAMPLE_RATE, WINDOW, HOP, BANDS = 16_000, 1024, 160, 64
LINEAR_HZ = 200 / 3  # Hz per mel below the break
BREAK_HZ, BREAK_MEL = 1000.0, 15.0
LOG_STEP = math.log(6.4) / 27.0


def log_mel(waveform: Tensor) -> Tensor:
    """Log magnitudes of 64 Slaney bands, 100 frames per second.

    Args:
        waveform: [B, 2, N] float at 16 kHz, N > 512.

    Returns:
        [B, 2, N // 160 + 1, 64]

    Source: docs/ltx2.md, section G; Slaney, Auditory Toolbox (1998), for the scale and its area normalisation.
    """
    batch, channels, length = waveform.shape
    spectrum = torch.stft(
        waveform.reshape(batch * channels, length),
        WINDOW,
        HOP,
        WINDOW,
        torch.hann_window(WINDOW, device=waveform.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    ).abs()
    bands = spectrum.transpose(1, 2) @ _filters().to(waveform)
    return bands.clamp(min=1e-5).log().reshape(batch, channels, -1, BANDS)


def _hz(mel: Tensor) -> Tensor:
    return torch.where(mel < BREAK_MEL, mel * LINEAR_HZ, BREAK_HZ * torch.exp(LOG_STEP * (mel - BREAK_MEL)))


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Triangles of unit area between neighbouring mel points: [513, 64]."""
    highest_mel = BREAK_MEL + math.log(SAMPLE_RATE / 2 / BREAK_HZ) / LOG_STEP
    points = _hz(torch.linspace(0, highest_mel, BANDS + 2))
    bins = torch.linspace(0, SAMPLE_RATE // 2, WINDOW // 2 + 1)
    width = points[1:] - points[:-1]
    slopes = points[None] - bins[:, None]
    triangles = torch.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]).clamp(min=0)
    return triangles * (2.0 / (points[2:] - points[:-2]))

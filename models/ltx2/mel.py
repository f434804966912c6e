"""Log-mel of a waveform, as the audio VAE of LTX-2.3 reads it. diffusers offers none."""

from functools import lru_cache

import torch
from torch import Tensor

from models.ltx2.spec import BANDS, HOP, SAMPLE_RATE, WINDOW


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


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Triangles of unit area between neighbouring points of Slaney's mel scale: [513, 64]."""
    from transformers.audio_utils import mel_filter_bank  # noqa: PLC0415  # a second, which a run begins without

    bands = mel_filter_bank(
        WINDOW // 2 + 1, BANDS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(bands).float()

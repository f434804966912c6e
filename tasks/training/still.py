"""One picture of a preview while its training goes on: `python -m tasks.training.still BASE LATENTS PICTURE`.

A process of its own on the processor, so that neither the GPU's memory nor the run feels it. A video's picture is a
frame of its middle, decoded from two latent steps; a sound's is its mel spectrogram, before any vocoder.
"""

import os
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from models.ltx2.codecs import VideoDecoder, decoded_mel
from models.ltx2.loading import load_audio_vae, load_video_vae
from tasks.training.parent import end_with_parent

CPU = torch.device("cpu")
NICE = 19
PIXELS_PER_CELL = 4  # of a spectrogram


def middle(latent: Tensor) -> Tensor:
    """Two latent steps around the middle, which decode to 9 frames: [128, 2, h, w], or the one that there is."""
    start = max(0, latent.shape[1] // 2 - 1)
    return latent[:, start : start + 2]


def spectrogram(mel: Tensor) -> Tensor:
    """Log-mel [1, 2, T, 64] -> a picture, uint8 [H, W], low tones below, loud is bright."""
    level = mel[0].float().mean(0).T.flip(0)
    scaled = (level - level.min()) / (level.max() - level.min()).clamp(min=1e-6) * 255
    return scaled.to(torch.uint8).repeat_interleave(PIXELS_PER_CELL, 0).repeat_interleave(PIXELS_PER_CELL, 1)


def draw(base: str, latents: Path, picture: Path) -> None:
    """Write the picture of a preview as PNG."""
    found = load_file(latents)
    if "video" in found:
        decoder = VideoDecoder(load_video_vae(base, CPU, torch.float32))
        pixels = decoder.decode(middle(found["video"]))[-1]
    else:
        pixels = spectrogram(decoded_mel(load_audio_vae(base, CPU), found["audio"]))
    Image.fromarray(pixels.numpy()).save(picture, format="PNG")


if __name__ == "__main__":
    os.nice(NICE)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    end_with_parent()
    draw(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

"""What trainings of this room train on."""

import pytest
import torch

from tasks.manifests import EncodedSample, LatentFile, Latents
from tests.support.trainings import published


@pytest.fixture
def latents(tmp_path):
    torch.manual_seed(0)
    text = published(tmp_path / "text", video=torch.randn(8, 64), audio=torch.randn(8, 32))
    video = published(tmp_path / "video", latent=torch.randn(128, 2, 2, 2))
    audio = published(tmp_path / "audio", latent=torch.randn(10, 128))
    files = (
        LatentFile(role="target", modality="video", artifact=video),
        LatentFile(role="target", modality="audio", artifact=audio, steps=9),
    )
    sample = EncodedSample(name="a", prompt="a", fps=24, latents=files, context=text)
    return Latents(samples=(sample,), previews=(sample,), negative=text)

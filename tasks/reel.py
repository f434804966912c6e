"""The preview reel: latents decoded, what was given put back exactly, a caption band per segment, one file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from models import base as base_model
from models.decoders import AudioDecoder, VideoDecoder
from models.preview import caption_band, keep_opening, with_band
from schemas.media import AUDIO_STEPS_PER_SECOND, Bucket, FittedAudio, FittedSample, FittedVideo, video_frames
from schemas.plan import Plan
from schemas.settings import settings
from tasks.base import base
from tasks.ffmpeg import decode_audio, decode_video, write_video
from tasks.store import Artifact, store


@dataclass(frozen=True)
class Segment:
    """One preview of one validation sample after so many steps."""

    step: int
    sample: FittedSample
    latents: Artifact

    @property
    def caption(self) -> str:
        return f"step {self.step} - {self.sample.caption}"


def write_video_reel(
    path: Path, segments: list[Segment], plan: Plan, bucket: Bucket, progress: Callable[[int, int], None]
) -> None:
    """All segments one after the other, each under its caption; with sound where the plan has it."""
    assert bucket.picture is not None
    sound, rate = None, 48000
    if plan.audio:
        sounds, rate = _sounds(segments, plan, bucket)
        sound = np.concatenate(sounds, axis=1)
    band = caption_band(bucket.picture.width, segments[0].caption)
    size = (bucket.picture.width, bucket.picture.height + band.shape[0])
    write_video(path, _pictures(segments, plan, progress), bucket.picture.fps, size, sound, rate)


def write_audio_reel(
    path: Path, segments: list[Segment], plan: Plan, bucket: Bucket, progress: Callable[[int, int], None]
) -> None:
    """All segments one after the other, as 16-bit stereo."""
    sounds, rate = _sounds(segments, plan, bucket)
    progress(len(segments), len(segments))
    soundfile.write(path, np.concatenate(sounds, axis=1).T, rate, subtype="PCM_16", format="WAV")


def _pictures(segments: list[Segment], plan: Plan, progress: Callable[[int, int], None]) -> Iterator[np.ndarray]:
    assert plan.video is not None
    device = base_model.pick_device(settings().device)
    decoder = VideoDecoder(base_model.load_video_vae(base().location, device, base_model.pick_dtype(device)))
    for index, segment in enumerate(segments):
        frames = decoder.decode(_latent(segment, "video"))
        if prefix := plan.video.prefix_steps():
            given = torch.from_numpy(_given_frames(segment.sample))
            frames = keep_opening(frames, given[: video_frames(prefix)])
        yield from with_band(frames, segment.caption).numpy()
        progress(index + 1, len(segments))


def _sounds(segments: list[Segment], plan: Plan, bucket: Bucket) -> tuple[list[np.ndarray], int]:
    """One [2, N] per segment, as long as the bucket, and their sampling rate."""
    assert plan.audio is not None
    device = base_model.pick_device(settings().device)
    place = base().location
    decoder = AudioDecoder(base_model.load_audio_vae(place, device), base_model.load_vocoder(place, device))
    samples = round(bucket.seconds * decoder.sample_rate)
    given = round(plan.audio.prefix_steps() / AUDIO_STEPS_PER_SECOND * decoder.sample_rate)

    def sound(segment: Segment) -> np.ndarray:
        generated = decoder.decode(_latent(segment, "audio")).numpy()[:, :samples]
        generated = np.pad(generated, ((0, 0), (0, samples - generated.shape[1])))
        if given:
            generated[:, :given] = _given_sound(segment.sample, decoder.sample_rate)[:, :given]
        return generated

    return [sound(segment) for segment in segments], decoder.sample_rate


def _latent(segment: Segment, modality: str) -> torch.Tensor:
    with store().local(segment.latents) as path:
        latent: torch.Tensor = load_file(path)[modality]
        return latent


def _given_frames(sample: FittedSample) -> np.ndarray:
    video = sample.clips["target"].video
    assert isinstance(video, FittedVideo)
    with store().media(video.source) as path:
        return decode_video(path, video)


def _given_sound(sample: FittedSample, rate: int) -> np.ndarray:
    audio = sample.clips["target"].audio
    assert isinstance(audio, FittedAudio)
    with store().media(audio.source) as path:
        return decode_audio(path, audio, rate)

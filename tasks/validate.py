"""Validate: preview latents of a training -> one reel to look at and listen to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import soundfile
from prefect import get_run_logger
from safetensors.torch import load_file
from torch import Tensor

from models.ltx2 import loading as base_model
from models.ltx2.codecs import AudioDecoder, VideoDecoder
from models.ltx2.geometry import white_pixels
from models.reel_frames import captioned, keep_opening, keep_region
from schemas.media import Bucket, FittedSample, Role
from schemas.plan import Generated, Plan
from schemas.settings import settings
from schemas.units import AUDIO_STEPS_PER_SECOND, video_frames
from tasks.base_model import Base, Precision
from tasks.manifests import Adapter, Reel
from tasks.media.ffmpeg import write_video
from tasks.media.read import read_frames, read_sound
from tasks.media.waveform import Waveform, of_length
from tasks.step import Progress, step
from tasks.storage.store import Artifact, key_of, store, temporary_folder

Shown = Callable[[int, int], None]

VERSION = 3  # of how a reel is made: raise it when one looks or sounds different


@dataclass(frozen=True)
class Segment:
    """One preview of one validation sample after so many steps."""

    step: int
    sample: FittedSample
    latents: Artifact

    @property
    def caption(self) -> str:
        return f"step {self.step} - {self.sample.caption}"


@dataclass(frozen=True)
class Decoders:
    """The decoders of a base model, with the precision of their computation. Sound is always in float32."""

    model: Base
    precision: Precision

    def video(self) -> VideoDecoder:
        device, dtype = base_model.pick_device(settings().device), base_model.dtype_of(self.precision.dtype)
        return VideoDecoder(base_model.load_video_vae(self.model.location, device, dtype))

    def audio(self) -> AudioDecoder:
        device, place = base_model.pick_device(settings().device), self.model.location
        return AudioDecoder(base_model.load_audio_vae(place, device), base_model.load_vocoder(place, device))


def make_reel(
    adapter: Adapter,
    samples: tuple[FittedSample, ...],
    plan: Plan,
    bucket: Bucket,
    decoders: Decoders,
    progress: Callable[[int, int], None],
) -> Reel:
    """Decode every preview of the training and join them in the order of the steps."""
    segments = [Segment(p.step, samples[p.sample], p.latents) for p in adapter.previews]
    if not segments:
        return Reel(file=None)
    suffix = ".mp4" if plan.video else ".wav"
    weights, dtype = decoders.model.weights("vae", "audio_vae", "vocoder"), decoders.precision.dtype
    address = f"reels/{key_of(VERSION, adapter, samples, plan, bucket, weights, dtype)}{suffix}"
    reel = store().find(address)
    if reel is None:
        with temporary_folder() as folder:
            path = Path(folder / f"reel{suffix}")
            write = write_video_reel if plan.video else write_audio_reel
            write(path, segments, plan, bucket, decoders, progress)
            reel = store().publish(path, address)
    return Reel(file=reel, suffix=suffix)


def _told(reel: Reel) -> str:
    return f"the reel, {reel.file.size:,} bytes" if reel.file else "no reel: the request has no validation samples"


@step("validate", version=4, says=_told, device=True)
def validate(
    adapter: Adapter,
    samples: tuple[FittedSample, ...],
    plan: Plan,
    bucket: Bucket,
    model: Base,
    precision: Precision,
) -> Reel:
    """The reel of all previews, from before the first step to the last."""
    progress = Progress("validate", "Previews decoded")
    reel = make_reel(adapter, samples, plan, bucket, Decoders(model, precision), progress)
    progress(1, 1)
    get_run_logger().info("%d previews in the reel", len(adapter.previews))
    return reel


def write_video_reel(
    path: Path, segments: list[Segment], plan: Plan, bucket: Bucket, decoders: Decoders, progress: Shown
) -> None:
    """Write all segments one after the other, each over its caption; with sound where the plan has it."""
    assert bucket.picture is not None and plan.video is not None
    with temporary_folder() as folder:
        sound = folder / "sound.wav" if plan.audio else None
        if sound and plan.audio:
            decoder = decoders.audio()
            results = (_result(segment, plan.audio, bucket, decoder) for segment in segments)
            _write_sound(sound, results, decoder.sample_rate, "FLOAT")
        frames = _pictures(segments, plan.video, decoders.video(), progress)
        first = next(frames)
        height, width = first.shape[:2]
        pixels = (frame.numpy() for frame in chain([first], frames))
        write_video(path, pixels, bucket.picture.fps, (width, height), sound)


def write_audio_reel(
    path: Path, segments: list[Segment], plan: Plan, bucket: Bucket, decoders: Decoders, progress: Shown
) -> None:
    """Write all segments one after the other, as 16-bit stereo; each result after its reference, if it has one."""
    assert plan.audio is not None
    decoder = decoders.audio()
    _write_sound(path, _sounds(segments, plan.audio, bucket, decoder, progress), decoder.sample_rate, "PCM_16")


def _pictures(segments: list[Segment], stream: Generated, decoder: VideoDecoder, progress: Shown) -> Iterator[Tensor]:
    for index, segment in enumerate(segments):
        result = decoder.decode(_latent(segment, "video"))
        yield from captioned(panels(segment.sample, stream, result), segment.caption)
        progress(index + 1, len(segments))


def panels(sample: FittedSample, stream: Generated, result: Tensor) -> dict[str, Tensor]:
    """Clips to show side by side, by label; all given frames and regions are put back into the result exactly.

    Args:
        sample: the validation sample as fitted.
        stream: the video of the plan.
        result: uint8 [F, H, W, 3], as decoded.
    """
    shown: dict[str, Tensor] = {}
    if stream.kept.region:
        shown["source"] = _frames(sample, "target")
        result = keep_region(result, shown["source"], white_pixels(_frames(sample, "mask")))
    if opening := stream.kept.opening:
        result = keep_opening(result, _frames(sample, "target")[: video_frames(opening)])
    if stream.reference("video"):
        shown["reference"] = _frames(sample, "reference")
    return {**shown, "result": result}


def _sounds(
    segments: list[Segment], stream: Generated, bucket: Bucket, decoder: AudioDecoder, progress: Shown
) -> Iterator[Waveform]:
    for index, segment in enumerate(segments):
        if stream.reference("audio"):
            yield _given_sound(segment.sample, "reference", bucket, decoder.sample_rate)
        yield _result(segment, stream, bucket, decoder)
        progress(index + 1, len(segments))


def _result(segment: Segment, stream: Generated, bucket: Bucket, decoder: AudioDecoder) -> Waveform:
    """The generated sound, [2, N], as long as the bucket, with a given opening put back exactly."""
    samples = round(bucket.seconds * decoder.sample_rate)
    generated = of_length(decoder.decode(_latent(segment, "audio")).numpy(), samples)
    if steps := stream.kept.opening:
        given = round(steps / AUDIO_STEPS_PER_SECOND * decoder.sample_rate)
        generated[:, :given] = _given_sound(segment.sample, "target", bucket, decoder.sample_rate)[:, :given]
    return generated


def _write_sound(path: Path, pieces: Iterable[Waveform], rate: int, subtype: str) -> None:
    with soundfile.SoundFile(path, "w", rate, channels=2, subtype=subtype, format="WAV") as file:
        for piece in pieces:
            file.write(piece.T)


def _latent(segment: Segment, modality: str) -> Tensor:
    with store().local(segment.latents) as path:
        latent: Tensor = load_file(path)[modality]
        return latent


def _frames(sample: FittedSample, role: Role) -> Tensor:
    video = sample.clips[role].video
    assert video is not None
    return read_frames(video)


def _given_sound(sample: FittedSample, role: Role, bucket: Bucket, rate: int) -> Waveform:
    """The sound of a given clip, [2, N], as long as the bucket."""
    audio = sample.clips[role].audio
    assert audio is not None
    return of_length(read_sound(audio, rate), round(bucket.seconds * rate))

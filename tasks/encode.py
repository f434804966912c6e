"""Encode: clips -> latents, captions -> text features: one artifact each, reused by every run that asks for the same.

A latent's cache key holds the encoder's input and weights, and nothing else: not the prefix, not the rank, not the
caption, not the role. The same clip as target here and as reference there is encoded once.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from prefect import get_run_logger
from safetensors.torch import save_file
from torch import Tensor

from models.ltx2 import loading as base_model
from models.ltx2.codecs import AudioEncoder, TextEncoder, VideoEncoder
from models.ltx2.geometry import regenerated_cells, white_pixels
from schemas.errors import EncodingFailed
from schemas.media import FittedAudio, FittedSample, FittedVideo, Role
from schemas.settings import settings
from schemas.units import audio_steps
from tasks.base_model import Base, Precision, Weights
from tasks.dataset.captions import with_trigger
from tasks.manifests import EncodedSample, LatentFile, Latents
from tasks.media.read import read_frames, read_sound
from tasks.run_id import current_run
from tasks.step import Progress, step
from tasks.storage.claims import Claims, wait_for
from tasks.storage.store import Artifact, key_of, store, temporary_folder
from tasks.storage.usage import record_usage

# of what this file makes of its input: raise one when a latent of its kind changes
VERSIONS: dict["Kind", int] = {"video": 1, "audio": 2, "mask": 1, "text": 2}
Content = FittedVideo | FittedAudio | str
Kind = Literal["video", "audio", "mask", "text"]
Made = Iterator[tuple["Wanted", dict[str, Tensor]]]

Asked = tuple[str, Content]  # a role and its clip, or "text" and a prompt


class Reused(NamedTuple):
    """Number of artifacts that were reused, and the seconds that they once took to make."""

    artifacts: int
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """One artifact that a run needs, whether or not it exists yet."""

    kind: Kind
    content: Content
    address: str
    seen: int = 0  # frames that fit has seen of a picture


@dataclass(frozen=True)
class Encoders:
    """The encoders of a base model, with the precision of their computation."""

    model: Base
    precision: Precision

    def wanted_latent(self, role: Role, content: FittedVideo | FittedAudio, mask_frames: int | None = None) -> Wanted:
        """The latent of a clip, or the cells that a mask opens, which need no encoder."""
        if role == "mask":
            return replace(_wanted("mask", content, {}, "exact"), seen=mask_frames or 1)
        if isinstance(content, FittedVideo):
            wanted = _wanted("video", content, self.model.weights("vae"), self.precision.dtype)
            return replace(wanted, seen=content.frames)
        return _wanted("audio", content, self.model.weights("audio_vae"), "exact")  # in float32 everywhere

    def wanted_text(self, prompt: str) -> Wanted:
        """The text features of a prompt."""
        kept_as, computed = self.precision.text_encoder, self.precision.dtype
        how = computed if kept_as == "bf16" else f"{computed}, {kept_as}"
        return _wanted("text", prompt, self.model.weights("text_encoder", "tokenizer", "connectors"), how)

    def video(self) -> VideoEncoder:
        return VideoEncoder(base_model.load_video_vae(self.model.location, self._device(), self._dtype()))

    def audio(self) -> AudioEncoder:
        return AudioEncoder(base_model.load_audio_vae(self.model.location, self._device()))

    def text(self) -> TextEncoder:
        kept_as = self.precision.text_encoder
        return TextEncoder(*base_model.load_text(self.model.location, self._device(), self._dtype(), kept_as))

    def _device(self) -> torch.device:
        return base_model.pick_device(settings().device)

    def _dtype(self) -> torch.dtype:
        return base_model.dtype_of(self.precision.dtype)


def encode_clips(
    samples: tuple[FittedSample, ...],
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    encoders: Encoders,
    progress: Callable[[int, int], None],
    use: Callable[[Sequence[Artifact]], None] = lambda artifacts: None,
) -> tuple[Latents, Reused, int]:
    """Encode what the store lacks; return the manifest of all, what was reused, and how many were encoded."""
    wanted = _all_wanted(samples, previews, negative_prompt, encoders)
    notes = {want.address: note for want in wanted.values() if (note := store().note(want.address))}
    reused = Reused(len(notes), sum(note.seconds for note in notes.values()))
    use([note.artifact for note in notes.values()])  # what is old could be pruned while the rest is encoded
    missing = {want.address: want for want in wanted.values() if want.address not in notes}
    encode_missing(missing.values(), encoders, progress)
    artifacts = {address: note.artifact for address, note in notes.items()}
    artifacts |= {address: found(want) for address, want in missing.items()}
    made = {asked: artifacts[want.address] for asked, want in wanted.items()}
    manifest = Latents(
        samples=tuple(_encoded(sample, made) for sample in samples),
        previews=tuple(_encoded(preview, made) for preview in previews),
        negative=made["text", negative_prompt] if previews else None,
    )
    return manifest, reused, len(missing)


def _all_wanted(
    samples: tuple[FittedSample, ...], previews: tuple[FittedSample, ...], negative_prompt: str, encoders: Encoders
) -> dict[Asked, Wanted]:
    """Every latent and text feature that a run needs, each key computed once."""
    everything = (*samples, *previews)
    wanted: dict[Asked, Wanted] = {}
    for role, clip in (roled for sample in everything for roled in sample.clips.items()):
        for content in clip.tracks.values():
            wanted.setdefault((role, content), encoders.wanted_latent(role, content, clip.mask_frames))
    for prompt in (*(sample.caption for sample in everything), *([negative_prompt] if previews else [])):
        wanted.setdefault(("text", prompt), encoders.wanted_text(prompt))
    return wanted


def _encoded(sample: FittedSample, made: dict[Asked, Artifact]) -> EncodedSample:
    latents = tuple(
        LatentFile(role=role, modality=modality, artifact=made[role, content], **_clock(content))
        for role, clip in sample.clips.items()
        for modality, content in clip.tracks.items()
    )
    context = made["text", sample.caption]
    return EncodedSample(name=sample.name, prompt=sample.caption, fps=sample.fps, latents=latents, context=context)


def _clock(content: FittedVideo | FittedAudio) -> dict[str, Any]:
    if isinstance(content, FittedVideo):
        return {"fps": content.fps}
    seconds = round(content.seconds * content.stretch, 9)  # stretched to a whole number of frames
    return {"steps": audio_steps(seconds)}


def _use(artifacts: Sequence[Artifact]) -> None:
    if run_id := current_run():
        record_usage(run_id, [artifact.address for artifact in artifacts])


def _told(latents: Latents) -> str:
    return f"latents and text features of {len(latents.samples)} samples and {len(latents.previews)} validation samples"


@step("encode", version=3, says=_told, device=True)
def encode(
    samples: tuple[FittedSample, ...],
    trigger_phrase: str,
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    model: Base,
    precision: Precision,
) -> Latents:
    """Encode latents of all clips and text features of all captions, in one task, because encoders are loaded once."""
    prompted = tuple(s.model_copy(update={"caption": with_trigger(s.caption, trigger_phrase)}) for s in samples)
    progress = Progress("encode", "Clips and captions encoded")
    encoders = Encoders(model, precision)
    latents, reused, encoded = encode_clips(prompted, previews, negative_prompt, encoders, progress, _use)
    progress(1, 1)
    get_run_logger().info("%d latents and text features reused (%.0f s saved), %d encoded", *reused, encoded)
    return latents


def found(wanted: Wanted) -> Artifact:
    """The artifact of a latent or text feature that has been encoded."""
    artifact = store().find(wanted.address)
    assert artifact is not None, wanted.address
    return artifact


def missing_of(wanted: Iterable[Wanted]) -> list[Wanted]:
    """The artifacts that the store lacks."""
    return [want for want in wanted if store().find(want.address) is None]


def encode_missing(missing: Iterable[Wanted], encoders: Encoders, progress: Callable[[int, int], None]) -> None:
    """Encode and publish what no other run on this machine is encoding, and wait for what others encode."""
    rest = list(missing)
    total = len(rest)
    while rest:
        with Claims() as claims:
            mine = set(claims.take(want.address for want in rest))
            done = total - len(rest)
            for want in _encode_all(missing_of(want for want in rest if want.address in mine), encoders):
                claims.release(want.address)
                done += 1
                progress(done, total)
        rest = missing_of(rest)
        if rest:
            wait_for(rest[0].address)


def _encode_all(wanted: list[Wanted], encoders: Encoders) -> Iterator[Wanted]:
    """Encode kind by kind, so that only one encoder is in memory; yield each artifact as soon as it is published."""
    for kind, encoder in _ENCODERS.items():
        begun = time.monotonic()
        for want, tensors in encoder([want for want in wanted if want.kind == kind], encoders):
            _publish(want, tensors, time.monotonic() - begun)
            begun = time.monotonic()
            yield want
        _release()


def _videos(wanted: list[Wanted], encoders: Encoders) -> Made:
    if wanted:
        encoder = encoders.video()
        for want, frames in _ahead(wanted, _frames):
            yield want, {"latent": encoder.encode(frames)}


def _audios(wanted: list[Wanted], encoders: Encoders) -> Made:
    if wanted:
        encoder = encoders.audio()
        for want, wave in _ahead(wanted, lambda w: _waveform(w, encoder.sample_rate)):
            yield want, {"latent": encoder.encode(wave)}


def _masks(wanted: list[Wanted], encoders: Encoders) -> Made:
    for want, frames in _ahead(wanted, _frames):
        yield want, {"latent": regenerated_cells(white_pixels(frames))}


def _texts(wanted: list[Wanted], encoders: Encoders) -> Made:
    if wanted:
        encoder = encoders.text()
        for want in wanted:
            assert isinstance(want.content, str)
            yield want, {str(modality): features for modality, features in encoder.encode(want.content).items()}


def _ahead(wanted: list[Wanted], decode: Callable[[Wanted], Tensor]) -> Iterator[tuple[Wanted, Tensor]]:
    """Each with its decoded content; the next one is decoded while the current one is encoded."""
    with ThreadPoolExecutor(1, "decode") as pool:
        coming = [pool.submit(decode, want) for want in wanted[:1]]
        for index, want in enumerate(wanted):
            current = coming.pop()
            coming.extend(pool.submit(decode, following) for following in wanted[index + 1 : index + 2])
            yield want, current.result()


def _frames(want: Wanted) -> Tensor:
    assert isinstance(want.content, FittedVideo)
    return read_frames(want.content, want.seen)


def _waveform(want: Wanted, rate: int) -> Tensor:
    assert isinstance(want.content, FittedAudio)
    return torch.from_numpy(read_sound(want.content, rate))


def _wanted(kind: Kind, content: Content, weights: Weights, precision: str) -> Wanted:
    key = key_of(kind, VERSIONS[kind], content, weights, precision)
    return Wanted(kind=kind, content=content, address=f"latents/{kind}/{key}")


def _publish(want: Wanted, tensors: dict[str, Tensor], seconds: float) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        content = want.content if isinstance(want.content, str) else f"the clip with sha256 {want.content.source}"
        raise EncodingFailed(
            f"the {want.kind} encoder gives numbers that are not finite for {content!r}; its weights may be damaged"
        )
    with temporary_folder() as folder:
        path = folder / "latent.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        store().publish(path, want.address, seconds)


def _release() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


_ENCODERS: dict[Kind, Callable[[list[Wanted], Encoders], Made]] = {
    "mask": _masks,
    "video": _videos,
    "audio": _audios,
    "text": _texts,
}

"""What is missing is encoded, one encoder in memory at a time, while the next clip is already being decoded."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.conditions import regenerated_cells, white_pixels
from models.ltx2 import loading as base_model
from models.ltx2.codecs import AudioEncoder, TextEncoder, VideoEncoder
from schemas.errors import EncodingFailed
from schemas.media import FittedAudio, FittedVideo, Role
from schemas.settings import settings
from tasks.base_model import Base, Precision, Weights
from tasks.media.ffmpeg import decode_again, decode_audio
from tasks.storage.claims import Claims, wait_for
from tasks.storage.store import Artifact, key_of, store, temporary_folder

# of what this file makes of its input: raise one when a latent of its kind changes
VERSIONS: dict["Kind", int] = {"video": 1, "audio": 2, "mask": 1, "text": 2}

Content = FittedVideo | FittedAudio | str
Kind = Literal["video", "audio", "mask", "text"]
Made = Iterator[tuple["Wanted", dict[str, Tensor]]]


@dataclass(frozen=True)
class Wanted:
    """One artifact that a run needs, whether or not it exists yet."""

    kind: Kind
    content: Content
    address: str
    seen: int = 0  # frames that fit has seen of a picture


@dataclass(frozen=True)
class Encoders:
    """What encodes: the base model, and how precisely it is computed."""

    model: Base
    precision: Precision

    def wanted_latent(self, role: Role, content: FittedVideo | FittedAudio, mask_frames: int | None = None) -> Wanted:
        """The latent of a clip, or for a mask the cells that it opens: those need no encoder."""
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


def found(wanted: Wanted) -> Artifact:
    """The artifact of something that has been encoded."""
    artifact = store().find(wanted.address)
    assert artifact is not None, wanted.address
    return artifact


def missing_of(wanted: Iterable[Wanted]) -> list[Wanted]:
    """What the store lacks."""
    return [want for want in wanted if store().find(want.address) is None]


def encode_missing(missing: Iterable[Wanted], encoders: Encoders, progress: Callable[[int, int], None]) -> None:
    """Encode and publish what nobody else on this machine is encoding, and wait for what somebody is."""
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
    """Kind by kind, so that only one encoder is in memory; each as soon as it is published."""
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


_ENCODERS: dict[Kind, Callable[[list[Wanted], Encoders], Made]] = {
    "mask": _masks,
    "video": _videos,
    "audio": _audios,
    "text": _texts,
}


def _ahead(wanted: list[Wanted], decode: Callable[[Wanted], Tensor]) -> Iterator[tuple[Wanted, Tensor]]:
    """Each with its decoded content; the next one is decoded while this one is encoded."""
    with ThreadPoolExecutor(1, "decode") as pool:
        coming = [pool.submit(decode, want) for want in wanted[:1]]
        for index, want in enumerate(wanted):
            current = coming.pop()
            coming.extend(pool.submit(decode, following) for following in wanted[index + 1 : index + 2])
            yield want, current.result()


def _frames(want: Wanted) -> Tensor:
    assert isinstance(want.content, FittedVideo)
    with store().media(want.content.source) as path:
        return torch.from_numpy(decode_again(path, want.content, want.seen))


def _waveform(want: Wanted, rate: int) -> Tensor:
    assert isinstance(want.content, FittedAudio)
    with store().media(want.content.source) as path:
        return torch.from_numpy(decode_audio(path, want.content, rate))


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

"""Clips -> latents, captions -> text features: one artifact each, reused by every run that asks for the same.

A latent's key holds what the encoder sees and the encoder's weights, and nothing else: not the prefix, not the rank,
not the caption, not the role. The same clip as target here and as reference there is encoded once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prefect import get_run_logger

from schemas.media import FittedAudio, FittedSample, FittedVideo, Frozen, Modality, Role, audio_steps
from tasks.base_model import Base, Precision
from tasks.dataset.captions import with_trigger
from tasks.encoding import Content, Encoders, Wanted, encode_missing, found
from tasks.run_id import current_run
from tasks.step import Progress, step
from tasks.storage.store import Artifact, store
from tasks.storage.usage import record_usage

Asked = tuple[str, Content]  # a role and its clip, or "text" and a prompt


class LatentFile(Frozen):
    """The latent of one track of one sample."""

    role: Role
    modality: Modality
    artifact: Artifact
    fps: float | None = None  # of a picture: each clip keeps its own clock
    steps: int | None = None  # of a sound: encoded ones are often one longer


class EncodedSample(Frozen):
    """A sample as the training reads it: latents by track, text features, and how fast its frames follow."""

    name: str
    prompt: str
    fps: float
    latents: tuple[LatentFile, ...]
    context: Artifact


class Latents(Frozen):
    """All that training and previews need; no tensor is in here, only where they are."""

    samples: tuple[EncodedSample, ...]
    previews: tuple[EncodedSample, ...] = ()
    negative: Artifact | None = None  # text features that previews are guided away from


class Reused(NamedTuple):
    """What was there already, and the seconds that it once took to make."""

    artifacts: int
    seconds: float


def encode_clips(
    samples: tuple[FittedSample, ...],
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    encoders: Encoders,
    progress: Callable[[int, int], None],
    use: Callable[[Sequence[Artifact]], None] = lambda artifacts: None,
) -> tuple[Latents, Reused, int]:
    """Encode what the store lacks; the manifest of all of it, what was reused and how many were encoded."""
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


@step("encode", version=3)
def encode(
    samples: tuple[FittedSample, ...],
    trigger_phrase: str,
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    model: Base,
    precision: Precision,
) -> Latents:
    """Latents of all clips and text features of all captions, in one task, because encoders are loaded once."""
    prompted = tuple(s.model_copy(update={"caption": with_trigger(s.caption, trigger_phrase)}) for s in samples)
    progress = Progress("encode", "Clips and captions encoded")
    encoders = Encoders(model, precision)
    latents, reused, encoded = encode_clips(prompted, previews, negative_prompt, encoders, progress, _use)
    progress(1, 1)
    get_run_logger().info("%d latents and text features reused (%.0f s saved), %d encoded", *reused, encoded)
    return latents

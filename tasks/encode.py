"""Clips -> latents, captions -> text features: one artifact each, reused by every run that asks for the same.

A latent's key holds what the encoder sees and the encoder's weights, and nothing else: not the prefix, not the rank,
not the caption, not the role. The same clip as target here and as reference there is encoded once.
"""

from collections.abc import Callable

from prefect import get_run_logger

from schemas.media import FittedSample, Frozen, Modality, Role
from tasks.base import Weights
from tasks.captions import with_trigger
from tasks.encoding import Wanted, encode_missing, found, missing_of, wanted_latent, wanted_text
from tasks.step import Progress, step
from tasks.store import Artifact, store


class LatentFile(Frozen):
    """The latent of one track of one sample."""

    role: Role
    modality: Modality
    artifact: Artifact


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


def encode_clips(
    samples: tuple[FittedSample, ...],
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    weights: Weights,
    progress: Callable[[int, int], None],
) -> tuple[Latents, int, int]:
    """Encode what the store lacks; the manifest of all of it, how many were reused and how many encoded."""
    wanted = all_wanted(samples, previews, negative_prompt, weights)
    missing = missing_of(wanted)
    encode_missing(missing, progress)
    manifest = Latents(
        samples=tuple(_encoded(sample, weights) for sample in samples),
        previews=tuple(_encoded(preview, weights) for preview in previews),
        negative=found(wanted_text(negative_prompt, weights)) if previews else None,
    )
    return manifest, len(wanted) - len(missing), len(missing)


def all_wanted(
    samples: tuple[FittedSample, ...], previews: tuple[FittedSample, ...], negative_prompt: str, weights: Weights
) -> list[Wanted]:
    """Every latent and text feature that a run needs, each once."""
    everything = (*samples, *previews)
    wanted = [
        wanted_latent(role, content, weights)
        for sample in everything
        for role, clip in sample.clips.items()
        for content in clip.tracks.values()
    ]
    wanted += [wanted_text(sample.caption, weights) for sample in everything]
    wanted += [wanted_text(negative_prompt, weights)] if previews else []
    return list({want.address: want for want in wanted}.values())


def seconds_spent(wanted: list[Wanted]) -> float:
    """What it took to make those that exist."""
    notes = (store().note(want.address) for want in wanted)
    return sum(note.seconds for note in notes if note)


def _encoded(sample: FittedSample, weights: Weights) -> EncodedSample:
    latents = tuple(
        LatentFile(role=role, modality=modality, artifact=found(wanted_latent(role, content, weights)))
        for role, clip in sample.clips.items()
        for modality, content in clip.tracks.items()
    )
    context = found(wanted_text(sample.caption, weights))
    return EncodedSample(name=sample.name, prompt=sample.caption, fps=sample.fps, latents=latents, context=context)


@step("encode", version=1)
def encode(
    samples: tuple[FittedSample, ...],
    trigger_phrase: str,
    previews: tuple[FittedSample, ...],
    negative_prompt: str,
    weights: Weights,
) -> Latents:
    """Latents of all clips and text features of all captions, in one task, because encoders are loaded once."""
    prompted = tuple(s.model_copy(update={"caption": with_trigger(s.caption, trigger_phrase)}) for s in samples)
    progress = Progress("encode", "Clips and captions encoded")
    saved = seconds_spent(all_wanted(prompted, previews, negative_prompt, weights))
    latents, reused, encoded = encode_clips(prompted, previews, negative_prompt, weights, progress)
    progress(1, 1)
    get_run_logger().info("%d latents and text features reused (%.0f s saved), %d encoded", reused, saved, encoded)
    return latents

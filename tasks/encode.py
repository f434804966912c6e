"""Clips -> latents, captions -> text features: one artifact each, reused by every run that asks for the same.

A latent's key holds what the encoder sees and the encoder's weights, and nothing else: not the prefix, not the rank,
not the caption, not the role. The same clip as target here and as reference there is encoded once.
"""

from collections.abc import Callable

from prefect import get_run_logger

from schemas.media import FittedSample, Frozen, Modality, Role
from tasks.base import Weights
from tasks.captions import with_trigger
from tasks.encoding import encode_missing, found, wanted_latent, wanted_text
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
    everything = (*samples, *previews)
    wanted = [
        wanted_latent(role, content, weights)
        for s in everything
        for role, c in s.clips.items()
        for content in c.tracks.values()
    ]
    wanted += [wanted_text(sample.caption, weights) for sample in everything]
    wanted += [wanted_text(negative_prompt, weights)] if previews else []
    distinct = {want.address: want for want in wanted}
    missing = [want for want in distinct.values() if store().find(want.address) is None]
    encode_missing(missing, progress)
    manifest = Latents(
        samples=tuple(_encoded(sample, weights) for sample in samples),
        previews=tuple(_encoded(preview, weights) for preview in previews),
        negative=found(wanted_text(negative_prompt, weights)) if previews else None,
    )
    return manifest, len(distinct) - len(missing), len(missing)


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
    latents, reused, encoded = encode_clips(prompted, previews, negative_prompt, weights, progress)
    progress(1, 1)
    get_run_logger().info("%d latents and text features reused, %d encoded", reused, encoded)
    return latents

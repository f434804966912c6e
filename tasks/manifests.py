"""Manifests that pass from step to step: which files, clips, latents and adapters there are; never their content.

A manifest that names a missing file is refused as it is read back, and so counts as missing from the cache.
"""

from pydantic import model_validator

from schemas.media import FittedSample, Frozen, MediaFile, Modality, Role, Sample, Skipped
from schemas.report import Ignored, Remark, Suggestion
from schemas.result import Billing, File, Samples, TrainingResult
from tasks.storage.store import Artifact, media_address, store


class Downloaded(MediaFile):
    """A file in the store; a manifest whose file is gone is a cache miss."""

    @model_validator(mode="after")
    def _present(self) -> "Downloaded":
        _check_present(self)
        return self


class Extracted(Frozen):
    """The files of an archive, all of them in the store; a manifest with a missing file is refused."""

    archive: str
    files: tuple[MediaFile, ...]
    ignored: tuple[str, ...]

    @model_validator(mode="after")
    def _present(self) -> "Extracted":
        for file in self.files:
            _check_present(file)
        return self


class Matched(Frozen):
    """Samples, and the files that none of them uses."""

    samples: tuple[Sample, ...]
    captions: dict[str, str]  # by the sample's name, the file's
    ignored: tuple[Ignored, ...]
    warnings: tuple[Remark, ...]


class Fitted(Frozen):
    """The samples that are trained on, and the reasons for which the others are skipped."""

    samples: tuple[FittedSample, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[Remark, ...]
    wins: tuple[Suggestion, ...] = ()


class LatentFile(Frozen):
    """The latent of one track of one sample."""

    role: Role
    modality: Modality
    artifact: Artifact
    fps: float | None = None  # of a picture: each clip keeps its own clock
    steps: int | None = None  # of a sound: encoded ones are often one longer


class EncodedSample(Frozen):
    """A sample as the training reads it: latents by track, text features, and its frame rate."""

    name: str
    prompt: str
    fps: float
    latents: tuple[LatentFile, ...]
    context: Artifact


class Latents(Frozen):
    """Manifest of all latents and text features that training and previews need; only addresses, no tensors."""

    samples: tuple[EncodedSample, ...]
    previews: tuple[EncodedSample, ...] = ()
    negative: Artifact | None = None  # text features that previews are guided away from


class PreviewLatents(Frozen):
    """The latents of one preview: after which step, of which validation sample."""

    step: int
    sample: int
    latents: Artifact


class Adapter(Frozen):
    """The adapter of a finished training."""

    weights: Artifact
    previews: tuple[PreviewLatents, ...]
    losses: Artifact  # JSON: {modality: [loss of every step]}


class Reel(Frozen):
    """The combined preview; `file` is None where the request has no validation samples."""

    file: Artifact | None
    suffix: str = ""


class Delivery(Frozen):
    """The files of a run, where its user finds them."""

    lora_file: File
    config_file: File
    video: File | None
    audio: File | None
    debug_dataset: File | None
    dataset_report: File
    loss_curve: File | None = None
    samples: Samples | None = None
    warnings: tuple[str, ...] = ()
    checksums: dict[str, str]  # sha256 by name, of these and of what lies beside them

    def result(self, billing: Billing) -> TrainingResult:
        return TrainingResult(
            **{name: file for name, file in dict(self).items() if name != "checksums"}, billing=billing
        )


def _check_present(file: MediaFile) -> None:
    if store().size(media_address(file.sha256)) != file.size:
        raise ValueError(f"file gone: {file.name}")

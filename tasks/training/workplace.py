"""The workplace of one training: its folder, and its latents as local files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from schemas.plan import Plan
from schemas.settings import settings
from schemas.training import Previewing
from tasks.manifests import EncodedSample, Latents
from tasks.storage.durable import make_folder
from tasks.storage.locks import is_in_place, locked
from tasks.storage.store import Artifact
from tasks.training.job import JobSample, LatentPath, PreviewJob


def artifacts_of(latents: Latents) -> Iterator[Artifact]:
    """All artifacts that a training reads."""
    for sample in (*latents.samples, *latents.previews):
        yield from (file.artifact for file in sample.latents)
        yield sample.context
    if latents.negative:
        yield latents.negative


@contextmanager
def workplace(key: str) -> Iterator[Path]:
    """The training's folder, ours alone: a second run of the same training waits until the first has ended.

    The lock is the kernel's and ends with its holder, however that ends.
    """
    folder = settings().home_folder / "work" / key
    while True:
        make_folder(folder)
        with locked(folder) as handle:
            if is_in_place(folder, handle):
                yield folder
                return


class LocalFiles:
    """Artifacts as local files, for as long as the training runs."""

    def __init__(self, paths: Mapping[Artifact, Path]) -> None:
        self.paths = paths

    def sample(self, sample: EncodedSample, plan: Plan) -> JobSample:
        latents = tuple(
            LatentPath(role=f.role, modality=f.modality, path=self.paths[f.artifact], fps=f.fps, steps=f.steps)
            for f in sample.latents
        )
        return JobSample(
            name=sample.name, plan=plan, fps=sample.fps, latents=latents, context=self.paths[sample.context]
        )

    def previews(self, latents: Latents, previewing: Previewing) -> PreviewJob | None:
        if not latents.negative or not latents.previews:
            return None
        return PreviewJob(
            samples=tuple(self.sample(preview, previewing.plan) for preview in latents.previews),
            negative=self.paths[latents.negative],
            bucket=previewing.bucket,
            stg_scale=previewing.stg_scale,
        )

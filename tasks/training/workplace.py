"""The workplace of one training: its folder, and its latents as local files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.settings import settings
from tasks.manifests import Latents
from tasks.storage.durable import make_folder
from tasks.storage.locks import is_in_place, locked
from tasks.storage.store import Artifact


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

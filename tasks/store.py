"""The content-addressed store: artifacts named by what they were made from, on any fsspec URL.

An artifact is written under a temporary name and then published by a rename, so that a reader never sees half of one.
Its content hash and size travel in the `Artifact` that manifests carry; readers check them.
"""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from pydantic import model_validator

from schemas.errors import StoreDamaged
from schemas.media import Frozen
from schemas.settings import settings

CHUNK = 1 << 20


class Artifact(Frozen):
    """A file in the store; a manifest that names one that is gone is no manifest but a cache miss."""

    address: str
    sha256: str
    size: int

    @model_validator(mode="after")
    def _present(self) -> "Artifact":
        if store().size(self.address) != self.size:
            raise ValueError(f"artifact gone: {self.address}")
        return self


def key_of(*parts: Any) -> str:
    """sha256 over plain values and pydantic models: the same for the same content in every process."""
    plain = [part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), default=_plain).encode()).hexdigest()


def put_whole(fs: AbstractFileSystem, path: Path, final: str) -> None:
    """Copy a local file to where readers look for it, so that they never see half of it."""
    fs.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(str(path), final)  # an object appears whole or not at all
        return
    part = Path(f"{final}.{uuid.uuid4().hex}.part")
    shutil.copyfile(path, part)
    part.replace(final)


def media_address(sha256: str) -> str:
    """Where the store keeps a media file: by content alone, so that the same clip is kept once."""
    return f"files/{sha256}"


class Store:
    """Artifacts under one fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.url_to_fs(url)
        self._verified: set[tuple[str, int, int, str]] = set()  # files hashed by this process, unchanged since

    def size(self, address: str) -> int | None:
        """Bytes of an artifact, or None where there is none."""
        try:
            return int(self.fs.size(f"{self.root}/{address}"))
        except FileNotFoundError:
            return None

    def find(self, address: str) -> Artifact | None:
        """The artifact that was published with its own hash beside it, or None."""
        note = self.read_text(f"{address}.json")
        try:
            return Artifact.model_validate_json(note) if note else None
        except ValueError:  # the note of an artifact that is gone: made anew
            return None

    def publish(self, path: Path, address: str) -> Artifact:
        """Put a finished local file under its address. Replaces what is there, in one step."""
        digest = file_sha256(path)
        self._write(path, address)
        artifact = Artifact(address=address, sha256=digest, size=path.stat().st_size)
        self.write_text(artifact.model_dump_json(), f"{address}.json")
        return artifact

    def write_text(self, text: str, address: str) -> None:
        """A small note of our own, such as a manifest."""
        with temporary_folder() as folder:
            note = folder / "note"
            note.write_text(text, encoding="utf-8")
            self._write(note, address)

    def read_text(self, address: str) -> str | None:
        """A note, or None where there is none."""
        try:
            return str(self.fs.cat_file(f"{self.root}/{address}").decode())
        except FileNotFoundError:
            return None

    def _write(self, path: Path, address: str) -> None:
        put_whole(self.fs, path, f"{self.root}/{address}")

    def local(self, artifact: Artifact) -> AbstractContextManager[Path]:
        """The artifact as a local file, checked against its hash.

        Raises:
            StoreDamaged: its content is not what was published, or it is gone.
        """
        return self._local(artifact.address, artifact.sha256)

    def media(self, sha256: str) -> AbstractContextManager[Path]:
        """A file that came with an archive or a validation sample, by its content."""
        return self._local(media_address(sha256), sha256)

    @contextmanager
    def _local(self, address: str, sha256: str) -> Iterator[Path]:
        with temporary_folder() as folder:
            path = Path(f"{self.root}/{address}")
            try:
                if not isinstance(self.fs, LocalFileSystem):
                    path = folder / Path(address).name
                    self.fs.get_file(f"{self.root}/{address}", str(path))
                self._verify(path, sha256)
            except FileNotFoundError as error:
                raise StoreDamaged(f"{self.url}/{address} is gone; run again to make it anew") from error
            yield path

    def _verify(self, path: Path, sha256: str) -> None:
        state = path.stat()
        seen = (str(path), state.st_mtime_ns, state.st_size, sha256)
        if seen in self._verified:
            return
        if file_sha256(path) != sha256:
            raise StoreDamaged(f"{path} differs from what was written; delete it and run again")
        self._verified.add(seen)


@lru_cache(maxsize=4)
def _store(url: str) -> Store:
    return Store(url)


def store() -> Store:
    """The store of the settings."""
    return _store(settings().store_url)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of our own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ltx-flows-") as folder:
        yield Path(folder)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)

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
from contextlib import AbstractContextManager, contextmanager, suppress
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


class Note(Frozen):
    """What the store keeps under a name: which artifact it is, and how long it took to make."""

    artifact: Artifact
    seconds: float


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

    def find(self, name: str) -> Artifact | None:
        """The artifact that was published under a name, or None."""
        note = self.note(name)
        return note.artifact if note else None

    def note(self, name: str) -> Note | None:
        """An artifact and what it cost, or None where there is none or its content is gone."""
        written = self.read_text(f"{name}.json")
        try:
            return Note.model_validate_json(written) if written else None
        except ValueError:
            return None

    def publish(self, path: Path, name: str, seconds: float = 0.0) -> Artifact:
        """Put a finished local file into the store and note it under the name of what it was made from.

        The file is kept by its content and the note is one small file, so two writers of one name, whose bytes may
        differ on a GPU, leave one whole artifact or the other.
        """
        digest, size = file_sha256(path), path.stat().st_size
        address = f"blobs/{digest[:2]}/{digest}{path.suffix}"
        if self.size(address) != size:
            put_whole(self.fs, path, f"{self.root}/{address}")
        artifact = Artifact(address=address, sha256=digest, size=size)
        self.write_text(Note(artifact=artifact, seconds=round(seconds, 3)).model_dump_json(), f"{name}.json")
        return artifact

    def keep(self, path: Path, sha256: str) -> None:
        """Put a media file into the store, unless its content is there."""
        if self.size(media_address(sha256)) != path.stat().st_size:
            put_whole(self.fs, path, f"{self.root}/{media_address(sha256)}")

    def remove(self, address: str) -> None:
        """Remove a file; one that is gone already is no fault."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{address}")

    def write_text(self, text: str, address: str) -> None:
        """A small note of our own, such as a manifest."""
        with temporary_folder() as folder:
            note = folder / "note"
            note.write_text(text, encoding="utf-8")
            put_whole(self.fs, note, f"{self.root}/{address}")

    def read_text(self, address: str) -> str | None:
        """A note, or None where there is none."""
        try:
            return str(self.fs.cat_file(f"{self.root}/{address}").decode())
        except FileNotFoundError:
            return None

    def local(self, artifact: Artifact) -> AbstractContextManager[Path]:
        """The artifact as a local file, checked against its hash.

        Raises:
            StoreDamaged: its content is not what was published, or it is gone. A damaged one is removed, so that it
                is missed, and made anew, from then on.
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
                whole = self._verified_whole(path, sha256)
            except FileNotFoundError as error:
                raise StoreDamaged(f"{self.url}/{address} is gone; run again to make it anew") from error
            if not whole:
                self.remove(address)
                raise StoreDamaged(f"{self.url}/{address} differed from what was written; run again to make it anew")
            yield path

    def _verified_whole(self, path: Path, sha256: str) -> bool:
        state = path.stat()
        seen = (str(path), state.st_mtime_ns, state.st_size, sha256)
        if seen not in self._verified and file_sha256(path) != sha256:
            return False
        self._verified.add(seen)
        return True


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

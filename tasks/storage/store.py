"""The content-addressed store: artifacts named by a key of their inputs, on any fsspec URL.

An artifact is written under a temporary name and then published by a rename, so that a reader never sees half of one.
Its content hash and size travel in the `Artifact` that manifests carry; readers check them.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, model_validator

from schemas.errors import FULL, StoreDamaged, StoreUnavailable, store_error
from schemas.media import Frozen, MediaFile
from schemas.settings import settings
from tasks.storage.folder import Place
from tasks.storage.home import private_home
from tasks.storage.locks import locked

TEMPORARY = "tmp"
FETCHED_AT_ONCE = 4
READS = 2  # what was garbled on its way is whole the second time


BROUGHT = {"artifacts": "local"}  # context in which manifests are read whose files are on this machine already


class Artifact(Frozen):
    """A file in the store; a manifest whose artifact is gone is refused, and so a cache miss."""

    address: str
    sha256: str
    size: int

    @model_validator(mode="after")
    def _present(self, info: ValidationInfo) -> "Artifact":
        if info.context is not BROUGHT and store().size(self.address) != self.size:
            raise ValueError(f"artifact gone: {self.address}")
        return self


class Note(Frozen):
    """The store's entry under a name: the artifact, and how long it took to make."""

    artifact: Artifact
    seconds: float


def key_of(*parts: Any) -> str:
    """sha256 over plain values and pydantic models: the same for the same content in every process."""
    plain = [part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), default=_plain).encode()).hexdigest()


def media_address(sha256: str) -> str:
    """Address of a media file in the store: by content alone, so that the same clip is kept once."""
    return f"files/{sha256}"


def _blob(sha256: str, suffix: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}{suffix}"


class Store:
    """Artifacts under one fsspec URL."""

    def __init__(self, url: str) -> None:
        self.place = Place(url)
        self.url, self.root = self.place.url, self.place.root
        self.size = self.place.size
        self.remove = self.place.remove
        self._verified: set[tuple[str, int, int, str]] = set()  # files hashed by this process, unchanged since

    def find(self, name: str) -> Artifact | None:
        """The artifact that was published under a name, or None."""
        note = self.note(name)
        return note.artifact if note else None

    def note(self, name: str) -> Note | None:
        """An artifact and the time it took to make, or None where there is none or its content is gone."""
        written = self.place.read(f"{name}.json")
        try:
            return Note.model_validate_json(written) if written else None
        except ValueError:
            return None

    def publish(self, path: Path, name: str, seconds: float = 0.0) -> Artifact:
        """Put a finished local file into the store and note it under the key of its inputs.

        The file is kept by its content and the note is one small file, so two writers of one name, whose bytes may
        differ on a GPU, leave one whole artifact or the other.
        """
        digest, size = file_sha256(path), path.stat().st_size
        address = _blob(digest, path.suffix)
        if self.size(address) != size:
            self.place.put(path, address)
        return self._note(Artifact(address=address, sha256=digest, size=size), name, seconds)

    def publish_text(self, text: str, name: str) -> Artifact:
        """Publish a small answer, which needs no local file; an answer lost in a power cut is computed anew."""
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        address = _blob(digest, ".json")
        if self.size(address) != len(content):
            self.place.write(content, address, lasting=False)
        artifact = Artifact(address=address, sha256=digest, size=len(content))
        return self._note(artifact, name, 0.0, lasting=False)

    def _note(self, artifact: Artifact, name: str, seconds: float, *, lasting: bool = True) -> Artifact:
        note = Note(artifact=artifact, seconds=round(seconds, 3)).model_dump_json()
        self.place.write(note.encode(), f"{name}.json", lasting=lasting)
        return artifact

    def keep(self, path: Path, sha256: str, *, moved: bool = False) -> None:
        """Put a media file into the store, unless its content is there already.

        Args:
            moved: nobody needs the file where it lies, so that it is moved where that saves a copy.
        """
        address = media_address(sha256)
        there = self.size(address) == path.stat().st_size
        if there and self.place.is_local:  # it costs little to see that, and a damaged one is mended in passing
            there = self._renew(Path(self.place.path(address)), sha256)
        if not there:
            (self.place.take if moved else self.place.put)(path, address)

    def write_text(self, text: str, address: str) -> None:
        """Write a small note of our own, such as a manifest."""
        self.place.write(text.encode(), address)

    def read_text(self, address: str) -> str | None:
        """A note, or None where there is none."""
        content = self.place.read(address)
        return None if content is None else content.decode(errors="replace")

    def local(self, artifact: Artifact) -> AbstractContextManager[Path]:
        """The artifact as a local file, checked against its hash.

        Raises:
            StoreDamaged: its content is not what was published, or it is gone. A damaged one is removed, so that it
                is missed, and made anew, from then on.
            StoreUnavailable: it could not be read to its end, which says nothing about what is kept.
        """
        return self._local(artifact.address, artifact.sha256)

    def media(self, sha256: str) -> AbstractContextManager[Path]:
        """A file that came with an archive or a validation sample, by its content."""
        return self._local(media_address(sha256), sha256)

    def all_local(self, artifacts: Iterable[Artifact], folder: Path) -> dict[Artifact, Path]:
        """Many artifacts as local files that exist together; of a remote store as copies in one folder.

        Raises:
            StoreDamaged: as `local` does, of all that are damaged or gone, so that they are made anew together.
        """
        wanted = list(dict.fromkeys(artifacts))
        if not self.place.is_local:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(FETCHED_AT_ONCE, "fetch") as pool:
            found = list(pool.map(lambda each: self._read_or_fault(each, folder), wanted))
        if damages := [str(each) for each in found if isinstance(each, StoreDamaged)]:
            raise StoreDamaged("; ".join(damages))
        return {each: path for each, path in zip(wanted, found, strict=True) if isinstance(path, Path)}

    def _read_or_fault(self, artifact: Artifact, folder: Path) -> Path | StoreDamaged:
        copy = folder / Path(artifact.address).name  # named by its content
        if not self.place.is_local and copy.exists() and self._is_whole(copy, artifact.sha256):
            return copy
        try:
            return self._read_whole(artifact.address, artifact.sha256, folder)
        except StoreDamaged as damage:
            return damage

    @contextmanager
    def _local(self, address: str, sha256: str) -> Iterator[Path]:
        if self.place.is_local:
            yield self._read_whole(address, sha256, Path())
            return
        with temporary_folder() as folder:
            yield self._read_whole(address, sha256, folder)

    def _read_whole(self, address: str, sha256: str, folder: Path) -> Path:
        where = f"{self.place.url}/{address}"
        try:
            for _ in range(READS):
                path = self.place.fetch(address, folder)
                if self._is_whole(path, sha256):
                    return path
            length = path.stat().st_size
        except FileNotFoundError as error:
            raise StoreDamaged(f"{where} is gone; run again to make it anew") from error
        if self.size(address) not in (length, None):
            raise StoreUnavailable(f"{where} could not be read to its end; check the connection, and run again")
        self.remove(address)
        raise StoreDamaged(f"{where} differed from what was written; run again to make it anew")

    def _renew(self, path: Path, sha256: str) -> bool:
        """Set a file's age to zero, as a run has just found a use for it; whether the file is whole."""
        try:
            os.utime(path)
            return self._is_whole(path, sha256)
        except FileNotFoundError:
            return False

    def _is_whole(self, path: Path, sha256: str) -> bool:
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
    """A folder of our own under HOME that is removed afterwards.

    The folder is locked for as long as its process lives, so that pruning knows which ones killed processes have left.
    """
    room = private_home() / TEMPORARY
    room.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=room) as folder, locked(Path(folder)):
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno in FULL:
                raise store_error(str(room), error) from error
            raise


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def keep(path: Path, name: str, sha256: str | None = None) -> MediaFile:
    """Put a file into the store, unless its content is there.

    Args:
        name: the file's name in messages.
        sha256: of a file that was hashed as it was written, and that nobody needs where it lies.
    """
    digest = sha256 or file_sha256(path)
    size = path.stat().st_size
    store().keep(path, digest, moved=sha256 is not None)
    return MediaFile(name=name, sha256=digest, size=size)

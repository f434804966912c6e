"""Outputs: the files of a run under OUTPUTS, read back and compared, with fresh links where nobody has read them."""

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import StoreRefused, StoreUnavailable
from schemas.result import File
from schemas.settings import settings
from tasks.storage.folder import Place
from tasks.storage.store import Artifact, file_sha256, store, temporary_folder

TYPES = {".safetensors": "application/octet-stream", ".wav": "audio/wav"}


class Outputs:
    """The folder of one run under OUTPUTS."""

    def __init__(self, run_id: str) -> None:
        self.place = Place(settings().outputs_url)
        self.run_id = run_id
        self.checksums: dict[str, str] = {}

    def open(self) -> None:
        """Check that files can be put there, read and removed.

        Raises:
            StoreFull, StoreRefused, StoreUnavailable: they cannot.
        """
        prove(self.place, f"{self.run_id}/.opened")

    def put(self, path: Path, name: str) -> File:
        """Publish a file under its final name, read back and compared; a whole file that is there stays.

        Raises:
            StoreUnavailable: what arrived is not what was sent.
        """
        final, digest = f"{self.run_id}/{name}", file_sha256(path)
        if self._digest(final, path.stat().st_size) != digest:
            self.place.put(path, final)
            if self.place.sha256(final) != digest:
                self.place.remove(final)
                raise StoreUnavailable(f"{self.place.url}/{final} arrived damaged; run again")
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.checksums[name] = digest
        return File(url=self.link(name), content_type=kind, file_name=name, file_size=path.stat().st_size)

    def link(self, name: str) -> str:
        """URL at which a client opens a file from now on."""
        return self.place.link(f"{self.run_id}/{name}", settings().link_seconds)

    def are_whole(self, checksums: Mapping[str, str]) -> bool:
        """Whether all delivered files are there, with the content that was delivered."""
        found = {name: self._digest(f"{self.run_id}/{name}") for name in checksums}
        return bool(checksums) and found == dict(checksums)

    def tidy(self) -> None:
        """Remove half-written files of a killed try of this run."""
        for file in self.place.files(self.run_id):
            if file.address.endswith(".part"):
                self.place.remove(file.address)

    def put_artifact(self, artifact: Artifact, name: str) -> File:
        with store().local(artifact) as path:
            return self.put(path, name)

    def put_json(self, content: Any, name: str) -> File:
        return self.put_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", name)

    def put_text(self, text: str, name: str) -> File:
        with temporary_folder() as folder:
            path = folder / name
            path.write_text(text, encoding="utf-8")
            return self.put(path, name)

    def _digest(self, address: str, size: int | None = None) -> str | None:
        """The sha256 of a file that is there; only of one with this size, where the size is known."""
        held = self.place.size(address)
        if held is None or (size is not None and held != size):
            return None
        return self.place.sha256(address)


def prove(place: Place, address: str) -> None:
    """Check that a file can be put into a place, read back and removed.

    Raises:
        StoreFull, StoreRefused, StoreUnavailable: it cannot.
    """
    place.write(b"{}", address)
    if place.read(address) != b"{}":
        raise StoreRefused(f"{place.url} does not give back what was put there; check that it is the right place")
    place.remove(address)


def open_outputs(run_id: str) -> None:
    """Check that OUTPUTS can be written, before anything is spent.

    Raises:
        StoreFull, StoreRefused, StoreUnavailable: they cannot.
    """
    Outputs(run_id).open()

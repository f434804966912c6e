"""Files into the store, known from then on by their content."""

from pathlib import Path

from schemas.media import MediaFile
from tasks.storage.store import file_sha256, store


def keep(path: Path, name: str, sha256: str | None = None) -> MediaFile:
    """Put a file into the store, unless its content is there; `name` is what messages call it."""
    digest = sha256 or file_sha256(path)
    size = path.stat().st_size
    store().keep(path, digest)
    return MediaFile(name=name, sha256=digest, size=size)

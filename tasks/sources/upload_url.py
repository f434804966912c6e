"""Upload addresses: files that clients have put into the store, known by their content, `upload://SHA256/NAME`."""

import re
from urllib.parse import quote, unquote

from schemas.media import MediaFile
from tasks.storage.store import media_address, store

SCHEME = "upload"
_URL = re.compile(r"upload://([0-9a-f]{64})/([^/?#]+)")


def uploaded_url(file: MediaFile) -> str:
    """The address of an uploaded file, which a client writes into a request."""
    return f"{SCHEME}://{file.sha256}/{quote(file.name)}"


def content_of(url: str) -> str | None:
    """The sha256 that an upload address names; None for any other URL."""
    return _parts(url)[0]


def uploaded(url: str) -> MediaFile | None:
    """The file behind an upload address, or None where there is none (any more)."""
    sha256, name = _parts(url)
    size = store().size(media_address(sha256)) if sha256 else None
    return MediaFile(name=unquote(name), sha256=sha256, size=size) if sha256 and size is not None else None


def _parts(url: str) -> tuple[str | None, str]:
    found = _URL.fullmatch(url)
    return (found[1], found[2]) if found else (None, "")

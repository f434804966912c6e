"""What is kept or shown of a request: everything but the secrets in its URLs."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit


def without_secrets(value: Any) -> Any:  # any JSON
    """The same JSON with the user, query and fragment of every URL removed."""
    if isinstance(value, dict):
        return {
            key: _bare(item) if key.endswith("_url") and item else without_secrets(item) for key, item in value.items()
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

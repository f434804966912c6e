"""Signed links: to finished files, for as long as the settings say, and to where an upload is expected."""

import hmac
import time
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request

from flows.service.own_secrets import secret
from flows.service.register import Entry
from flows.service.upload_register import UNFINISHED_SECONDS, Upload
from schemas.settings import settings


def public(entry: Entry, result: dict[str, Any]) -> dict[str, Any]:
    """A result whose files have links that the client can open, wherever OUTPUTS are."""
    return {name: _file(entry, value) for name, value in result.items()}


def link(entry: Entry, name: str) -> str:
    """A link to one file of a run."""
    expires = int(time.time()) + settings().link_seconds
    query = urlencode({"expires": expires, "signature": signature(str(entry.run_id), name, expires)})
    return f"{entry.origin}/files/{entry.run_id}/{quote(name)}?{query}"


def upload_link(origin: str, upload: Upload) -> str:
    """A link to which the content of an upload may be sent without a key."""
    expires = int(time.time()) + UNFINISHED_SECONDS
    query = urlencode({"expires": expires, "signature": signature(_folder(upload.id), upload.name, expires)})
    return f"{origin}{upload.path}?{query}"


def signature(run_id: str, name: str, expires: int) -> str:
    """Signature of a link, so that nobody can make one for another file or for longer."""
    return hmac.new(secret("links", 32), f"{run_id}\n{name}\n{expires}".encode(), sha256).hexdigest()


def valid(run_id: str, name: str, expires: int, given: str) -> bool:
    """Whether a link is ours and still open; compared in constant time."""
    return hmac.compare_digest(signature(run_id, name, expires).encode(), given.encode()) and expires > time.time()


def valid_upload(upload_id: str, name: str, expires: int, given: str) -> bool:
    """Whether a link to upload to is ours and still open; compared in constant time."""
    return valid(_folder(upload_id), name, expires, given)


def origin(request: Request) -> str:
    """Scheme, host and port under which clients reach us."""
    return (settings().public_url or str(request.base_url)).rstrip("/")


def _folder(upload_id: str) -> str:
    return f"uploads/{upload_id}"  # in no link to a file: their first part has no slash


def _file(entry: Entry, value: Any) -> Any:
    if isinstance(value, dict) and "url" in value and "file_name" in value:
        return value | {"url": link(entry, value["file_name"])}
    return value

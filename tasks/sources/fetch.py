"""Fetch: the files behind URLs into the store, and the rules of which URLs may be fetched."""

import base64
import binascii
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

from schemas.faults import all_of
from schemas.media import MediaFile
from schemas.rejections import DownloadRejected, Loc
from schemas.settings import settings
from tasks.sources.sink import Shown, Sink
from tasks.sources.upload_url import SCHEME, uploaded
from tasks.storage.store import keep, temporary_folder

REMOTE = ("http", "https", "s3", "data")


def check(url: str, where: Loc) -> SplitResult:
    """Check a URL without asking anybody else: this costs nothing, and faults are reported at once.

    Raises:
        DownloadRejected: it cannot be fetched or must not be.
    """
    name = name_of(url)
    parts = _split(url, name, where)
    if "::" in url.split("?", 1)[0] and parts.scheme not in ("http", "https", "data"):  # there it is an IPv6 address
        raise DownloadRejected(name, "chained URLs (::) are not allowed", where=where)
    if parts.scheme in ("", "file"):
        _local_path(parts, name, where)
    elif parts.scheme == SCHEME:
        _find_uploaded(url, name, where)
    elif parts.scheme in ("http", "https") and not _names_a_host(parts):
        raise DownloadRejected(name, "it is no valid URL", where=where)
    elif parts.scheme not in REMOTE:
        reason = f"{parts.scheme}: URLs are not supported; use {', '.join(REMOTE[:-1])} or upload it"
        raise DownloadRejected(name, reason, where=where)
    return parts


def check_all(body: Any) -> None:  # any JSON
    """Check every URL of a request.

    Raises:
        InputRejected: all that are wrong, together.
    """
    all_of(partial(check, url, where) for url, where in urls_in(body))


def urls_in(value: Any, where: Loc = ()) -> Iterator[tuple[str, Loc]]:  # any JSON
    """Every URL of a request, and the field that holds it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from urls_in(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from urls_in(item, (*where, index))
    elif isinstance(value, str) and where and str(where[-1]).endswith("_url"):
        yield value, where


def _names_a_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def fetch(url: str, where: Loc, progress: Shown | None = None) -> MediaFile:
    """Fetch a file into the store.

    Args:
        url: http, https, s3, data: or upload:; a path or file:// where settings allow it.
        where: the request field that holds the URL.
        progress: called with the bytes that have come and their number in all, where that is known.

    Raises:
        DownloadRejected: it cannot be fetched or must not be.
        DownloadInterrupted: the other side stopped in between; it may pass.
    """
    name = name_of(url)
    parts = check(url, where)
    if parts.scheme in ("", "file"):
        path = _local_path(parts, name, where)
        if not path.is_file():
            raise DownloadRejected(name, "there is no such file", where=where)
        return keep(path, name)
    if parts.scheme == SCHEME:
        return _find_uploaded(url, name, where)
    with temporary_folder() as folder:
        path = folder / "download"
        with path.open("w+b") as file:
            sink = Sink(file, name, where, progress or (lambda done, total: None))
            _fetch_remote(url, parts, sink)
        return keep(path, name, sink.sha256())


def name_of(url: str) -> str:
    """Name of a file in messages and logs: the last part of its path, never the query, which may be a secret."""
    if url[:5].lower() == "data:":
        return "data URI"
    path = url.split("?", 1)[0].split("#", 1)[0]
    path = path.split("://", 1)[-1] if "://" in path else path
    return unquote(PurePosixPath(path).name).rsplit("@", 1)[-1] or "file"


def _split(url: str, name: str, where: Loc) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise DownloadRejected(name, "it is no valid URL", where=where) from error


def _fetch_remote(url: str, parts: SplitResult, sink: Sink) -> None:
    if parts.scheme in ("http", "https"):
        from tasks.sources.http import fetch_web  # noqa: PLC0415 - httpx costs 0.3 s, s3fs 1 s: only where they are needed

        fetch_web(url, sink)
    elif parts.scheme == "s3":
        from tasks.sources.s3 import fetch_s3  # noqa: PLC0415

        fetch_s3(url, sink)
    else:
        _fetch_data(url, sink)


def _find_uploaded(url: str, name: str, where: Loc) -> MediaFile:
    """The file of an `upload:` URL, which its user has put into the store."""
    if file := uploaded(url):
        return file
    raise DownloadRejected(name, "there is no such upload (any more); upload it again", where=where)


def _fetch_data(url: str, sink: Sink) -> None:
    head, comma, body = url.partition(",")
    if not comma:
        raise sink.refusal("the data URI has no content")
    try:
        raw = unquote_to_bytes(body)
        sink.write(base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw)
    except binascii.Error as error:
        raise sink.refusal("the data URI is not valid base64") from error


def state_of(url: str) -> tuple[int, int] | None:
    """Size and time of the last change of a file of this machine; None for any other URL."""
    try:
        parts = urlsplit(url)
        state = Path(unquote(parts.path)).stat() if parts.scheme == "file" else None
    except (OSError, ValueError):  # fetching it will say why
        return None
    return (state.st_size, state.st_mtime_ns) if state else None


def _local_path(parts: SplitResult, name: str, where: Loc) -> Path:
    """Path of a file of this machine, below the folder that settings open; links are followed before that check."""
    root = settings().allow_file_root
    if root is None:
        raise DownloadRejected(
            name, "files of this machine are not allowed here; use an http, https or s3 URL", where=where
        )
    try:
        path = Path(unquote(parts.path) if parts.scheme else parts.geturl()).expanduser().resolve()
    except (OSError, ValueError) as error:
        raise DownloadRejected(name, "it is no valid path", where=where) from error
    if not path.is_relative_to(root.expanduser().resolve()) or parts.netloc not in ("", "localhost"):
        raise DownloadRejected(name, "it lies outside the folder that LTX_FLOWS_ALLOW_FILE_ROOT opens", where=where)
    if not path.is_file() and root.expanduser().is_dir():  # else it is the worker's folder, and not this machine's
        raise DownloadRejected(name, "there is no such file", where=where)
    if path.is_file() and path.stat().st_size > settings().max_download_bytes:
        raise DownloadRejected(name, f"more than {settings().max_download_bytes} bytes are not allowed", where=where)
    return path

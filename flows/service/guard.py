"""Guard: refuses requests that a page from elsewhere makes a browser send, or that come under a foreign host name.

A browser sends the key that it remembers with all requests of a page, but also says where the page is from.
"""

import ipaddress
import socket
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.settings import settings

READING = ("GET", "HEAD", "OPTIONS")
ELSEWHERE = ("cross-site", "same-site")  # of Sec-Fetch-Site; another port of this machine is the same site
MISDIRECTED = 421


class Guard:
    """Middleware that checks Host, Origin and Sec-Fetch-Site."""

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self.app, self.names = app, tuple(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope, self.names) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)


def only_json(request: Request) -> None:
    """Refuse a body whose content type is not JSON: a form on a page from elsewhere cannot have that type.

    Raises:
        HTTPException: 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the body is {kind or 'nothing known'}; send it as Content-Type: application/json")


def _refusal(scope: Scope, names: tuple[str, ...]) -> JSONResponse | None:
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    name = _name_of(f"//{host}")
    if name not in names and not _is_ours(name):
        named = "LTX_FLOWS_PUBLIC_URL or LTX_FLOWS_ALLOWED_HOSTS"
        return JSONResponse(
            {"detail": f"this service has no name {host[:100]!r}; {named} can give it one"}, MISDIRECTED
        )
    if scope["method"] in READING:
        return None
    origin = headers.get("origin")
    if origin is not None and origin in allowed_origins():
        return None
    if headers.get("sec-fetch-site") in ELSEWHERE or (origin is not None and not is_own_page(origin, host)):
        return JSONResponse({"detail": "pages from elsewhere may not change anything here"}, 403)
    return None


def is_own_page(origin: str, host: str) -> bool:
    """Whether a page of this origin came from here, as far as the names say."""
    own = {host, urlsplit(settings().public_url).netloc} - {""}
    return urlsplit(origin).netloc in own


def allowed_origins() -> frozenset[str]:
    """Origins of other people's pages that may use the API, each page with a key of its own."""
    return _origins(settings().allowed_origins)


def _is_ours(name: str) -> bool:
    return name == "localhost" or _is_address(name) or name in _names(settings().public_url, settings().allowed_hosts)


def _is_address(name: str) -> bool:
    """Whether a host is an address, which nobody can make lead here as they can a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


@lru_cache(maxsize=8)
def _origins(allowed: str) -> frozenset[str]:
    return frozenset(each.strip().rstrip("/").lower() for each in allowed.split(",")) - {""}


@lru_cache(maxsize=8)
def _names(public_url: str, allowed: str) -> frozenset[str]:
    """Host names under which this service may be asked for."""
    machine = socket.gethostname().lower()
    more = (each.strip().lower() for each in allowed.split(","))
    return frozenset({machine, f"{machine}.local", _name_of(public_url), *more} - {""})

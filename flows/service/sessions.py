"""Sessions of people who sign in with a key on our pages: a signed cookie in which no key is, nor a hash of one."""

import hmac
import time
from hashlib import sha256

from fastapi import Request
from starlette.responses import Response

from flows.service.guard import READING, is_own_page
from flows.service.own_secrets import secret
from schemas.settings import settings

COOKIE = "ltx_flows_session"
SECONDS = 7 * 24 * 3600


def begin(request: Request, answer: Response, known: str) -> None:
    """Give the browser a session for a key, of which only the digest is `known` here."""
    expires = int(time.time()) + SECONDS
    answer.set_cookie(
        COOKIE,
        f"{expires}.{_signature(known, expires)}",
        max_age=SECONDS,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )


def end(request: Request, answer: Response) -> None:
    """Have the browser forget its session."""
    answer.delete_cookie(COOKIE, secure=_is_secure(request), httponly=True, samesite="strict")


def keys_of(request: Request, known: list[str]) -> list[str]:
    """The keys among the known ones, all by their digests, that the request's session is for: one, or none.

    A browser sends the cookie with whatever a page makes it send. So what changes something is refused unless the
    browser says that a page of ours has sent it, which no page from elsewhere can make it say.
    """
    expires, _, given = request.cookies.get(COOKIE, "").partition(".")
    if not (expires.isascii() and expires.isdigit()) or int(expires[:12]) < time.time():
        return []
    if request.method not in READING and not _is_sent_by_our_page(request):
        return []
    return [key for key in known if hmac.compare_digest(_signature(key, int(expires)).encode(), given.encode())]


def _signature(known: str, expires: int) -> str:
    return hmac.new(secret("sessions", 32), f"{known}\n{expires}".encode(), sha256).hexdigest()


def _is_sent_by_our_page(request: Request) -> bool:
    """Whether the browser says so; it does not say where a page is from unless the page came by a safe way."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and is_own_page(origin, request.headers.get("host", ""))


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https" or settings().public_url.startswith("https:")

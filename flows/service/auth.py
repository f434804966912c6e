"""Authentication: API keys, compared in constant time and kept nowhere but in the settings."""

import base64
import binascii
import hmac
import time
from collections import deque
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from flows.service import sessions
from schemas.settings import settings

ANYBODY = "anybody"  # the owner of all requests where no keys are set
SCHEMES = ("key", "bearer")  # of fal's clients, and of everybody else's
MINUTE = 60.0


class NotSignedIn(HTTPException):
    """A request without a key. Programs are asked for one in words, people by the page to sign in with."""

    def __init__(self, request: Request) -> None:
        browser = "sec-fetch-mode" in request.headers or wants_page(request)  # which would ask for a password by itself
        scheme = "Key" if browser else "Basic"
        super().__init__(
            401,
            "Authentication is required: send the header `Authorization: Key <one of LTX_FLOWS_API_KEYS>`",
            headers={"WWW-Authenticate": f'{scheme} realm="ltx-flows: any name, an API key as password"'},
        )


async def owner(request: Request) -> str:
    """Hash of the key that came with a request, as its owner. A coroutine, so that no thread is waited for.

    Raises:
        NotSignedIn: 401 where keys are set and none of them came, nor a session of one.
    """
    known = known_keys()
    if not known:
        return ANYBODY
    header = request.headers.get("authorization")
    if header is not None:
        found = _same(known, _key(header))
    else:
        session = sessions.COOKIE in request.cookies
        found = await run_in_threadpool(sessions.keys_of, request, known) if session else []
    if not found:
        raise NotSignedIn(request)
    return found[0][:32]


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    return "text/html" in request.headers.get("accept", "")


def known_keys() -> list[str]:
    """Digests of all keys; none where everybody may come in."""
    keys = settings().api_keys.get_secret_value().split(",")
    return [_digest(key.strip()) for key in keys if key.strip()]


def digest_of(key: str) -> str | None:
    """Digest of a key that somebody types, if it is one of ours."""
    found = _same(known_keys(), key.strip())
    return found[0] if found else None


Owner = Annotated[str, Depends(owner)]


async def may_submit(request: Request, owner: Owner) -> str:
    """The owner, if it has not submitted too much in the last minute.

    Raises:
        HTTPException: 429, which fal's clients wait out.
    """
    now, times = time.monotonic(), request.app.state.submitted.setdefault(owner, deque())
    while times and now - times[0] > MINUTE:
        times.popleft()
    if len(times) >= settings().submissions_per_minute:
        wait = str(round(MINUTE - (now - times[0])) + 1)
        raise HTTPException(
            429,
            f"more than {settings().submissions_per_minute} requests in a minute; wait {wait} s, or raise "
            "LTX_FLOWS_SUBMISSIONS_PER_MINUTE",
            headers={"Retry-After": wait},
        )
    times.append(now)
    return owner


Submitter = Annotated[str, Depends(may_submit)]


def _key(header: str) -> str:
    """The key of a `Key ...`, `Bearer ...`, or a browser's `Basic` header (its password)."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value.strip() if scheme.lower() in SCHEMES else ""


def _same(known: list[str], key: str) -> list[str]:
    given = _digest(key)
    return [each for each in known if hmac.compare_digest(each, given)]  # all are compared


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()

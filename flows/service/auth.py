"""Authentication: API keys, compared in constant time and kept nowhere but in the settings."""

import base64
import binascii
import hmac
import time
from collections import deque
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from schemas.settings import settings

ANYBODY = "anybody"  # the owner of all requests where no keys are set
SCHEMES = ("key", "bearer")  # of fal's clients, and of everybody else's
MINUTE = 60.0


async def owner(request: Request) -> str:
    """Hash of the key that came with a request, as its owner. A coroutine, so that no thread is waited for.

    Raises:
        HTTPException: 401 where keys are set and none of them came.
    """
    keys = [key.strip() for key in settings().api_keys.get_secret_value().split(",") if key.strip()]
    if not keys:
        return ANYBODY
    given = _digest(_key(request.headers.get("authorization", "")))
    found = [known for known in map(_digest, keys) if hmac.compare_digest(known, given)]  # all are compared
    if not found:
        raise HTTPException(
            401,
            "Authentication is required: send the header `Authorization: Key <one of LTX_FLOWS_API_KEYS>`",
            headers={"WWW-Authenticate": 'Basic realm="ltx-flows: any name, an API key as password"'},
        )
    return found[0][:32]


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


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()

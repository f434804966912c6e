"""Webhooks: the ending of a request sent to its client, signed with Ed25519, tried ten more times in two hours.

Source: docs/http-contract.md, section 3.
"""

import base64
import json
import time
from hashlib import sha256
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter

from flows.service.links import public
from flows.service.own_secrets import secret
from flows.service.register import Entry
from schemas.settings import settings
from tasks.sources.network import AsyncPublicTransport, PrivateAddress, UnknownHost, address_of

WAITS = (0, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3000)  # seconds before each try: ten retries in two hours
TIMEOUT = 15.0
LAST_PORT = 65535
WHY: dict[type[Exception], str] = {
    UnknownHost: "its host is unknown",
    PrivateAddress: "it is on a private network; see LTX_FLOWS_ALLOW_PRIVATE_HOSTS",
}
router = APIRouter(tags=["webhooks"])


class Forbidden(Exception):
    """A URL to which no webhook is sent."""


@router.get(
    "/.well-known/jwks.json",
    summary="Keys that webhooks are signed with",
    openapi_extra={"security": []},  # open to all
)
def jwks() -> dict[str, list[dict[str, str]]]:
    """The public key, as JSON Web Key."""
    raw = _key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": "EdDSA"}]}


def client_of() -> httpx.AsyncClient:
    """HTTP client for webhooks: follows no redirect and no proxy, so that it reaches the address that was checked."""
    transport = AsyncPublicTransport(httpx.AsyncHTTPTransport(trust_env=False))
    return httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, transport=transport)


async def tell(entry: Entry) -> str | None:
    """Send the ending of a request to its client, once; return the fault, or None."""
    async with client_of() as client:
        return await send(client, entry, json.dumps(message(entry)).encode())


async def send(client: httpx.AsyncClient, entry: Entry, content: bytes) -> str | None:
    """Send a webhook to the address that was checked; return the fault, or None."""
    assert entry.webhook
    try:
        answer = await client.post(entry.webhook, content=content, headers=signed(entry, content))
    except (UnknownHost, PrivateAddress) as refusal:
        return WHY[type(refusal)]
    except (httpx.HTTPError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return None if answer.is_success else f"it answered {answer.status_code}"


def message(entry: Entry) -> dict[str, Any]:
    """Body of a webhook."""
    answer = entry.answer or {}
    told = {"request_id": entry.id, "gateway_request_id": entry.id}
    if entry.code == 200:
        return told | {"status": "OK", "payload": public(entry, answer)}
    return told | {"status": "ERROR", "error": f"the request ended with {entry.code}", "payload": answer}


def signed(entry: Entry, content: bytes, now: int | None = None) -> dict[str, str]:
    """Headers that prove the origin of a webhook."""
    moment = str(int(time.time()) if now is None else now)
    lines = (entry.id, entry.owner, moment, sha256(content).hexdigest())
    return {
        "Content-Type": "application/json",
        "X-Fal-Webhook-Request-Id": entry.id,
        "X-Fal-Webhook-User-Id": entry.owner,
        "X-Fal-Webhook-Timestamp": moment,
        "X-Fal-Webhook-Signature": _key().sign("\n".join(lines).encode()).hex(),
    }


def check_webhook(url: str) -> None:
    """Refuse a URL to which no webhook could be sent.

    Raises:
        Forbidden: it is no URL, or leads into a private network.
    """
    try:
        parts = httpx.URL(url)
        port = parts.port or 443
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Forbidden("it is no valid URL") from error
    if parts.scheme not in ("http", "https") or not parts.host or port > LAST_PORT:
        raise Forbidden("it is no http or https URL")
    if settings().allow_private_hosts:  # its name may be known by then
        return
    try:
        address_of(parts.host, port)
    except (UnknownHost, PrivateAddress) as refusal:
        raise Forbidden(WHY[type(refusal)]) from refusal
    except OSError as error:  # of the name server
        raise Forbidden(WHY[UnknownHost]) from error


def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secret("webhooks", 32))

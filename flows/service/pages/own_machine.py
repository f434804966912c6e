"""The link to a run in Prefect's pages, for nobody but who could read their password in HOME anyway.

Whoever has that password may run programs as the owner of this service. An API key is not worth as much, and neither
is being on this machine: the browser must be one of the same user, as the kernel knows the owner of its connection.
"""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from fastapi import Request

from flows.hosting.prefect_server import entrance
from schemas.settings import settings

CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
FORWARDED = ("forwarded", "x-forwarded-for", "via", "x-real-ip")  # by a proxy, for somebody else


def prefect_link(request: Request, run_id: str | None) -> str | None:
    """Link to a run's page, with the password of this HOME's server; None for everybody else."""
    if run_id is None or not is_own(request):
        return None
    url, path = entrance(), f"/runs/flow-run/{run_id}"
    if url is None:
        return None
    return f"{url};{path}" if "#" in url else f"{url}{path}"


def is_own(request: Request) -> bool:
    """Whether a browser of this machine and this user asks, and no proxy for somebody else."""
    if settings().public_url or any(name in request.headers for name in FORWARDED) or request.client is None:
        return False
    server = request.scope.get("server")
    return server is not None and _is_by_this_user((request.client.host, request.client.port), tuple(server))


def _is_by_this_user(client: tuple[str, int], server: tuple[str, int | None]) -> bool:
    try:
        here = ip_address(client[0]).is_loopback
    except ValueError:
        return False
    return here and any(row == (client, server, os.getuid()) for row in _connections())


def _connections() -> Iterator[tuple[tuple[str, int], tuple[str, int], int]]:
    """All connections of this machine: address on either side, and the user who has opened it."""
    for table in CONNECTIONS:
        if table.exists():
            for line in table.read_text().splitlines()[1:]:
                columns = line.split()
                yield _address(columns[1]), _address(columns[2]), int(columns[7])


def _address(text: str) -> tuple[str, int]:
    """An address as the kernel writes it: words of four bytes in the machine's order, and a port, all in hex."""
    number, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(number[at : at + 8])[::-1] for at in range(0, len(number), 8))
    host = ip_address(socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw))
    plain = getattr(host, "ipv4_mapped", None) or host
    return str(plain), int(port, 16)

"""Public network only: requests on behalf of clients must not reach the private network.

A host's name is looked up here, and the connection goes to the address that was checked: a name that leads elsewhere a
moment later changes nothing.
"""

import asyncio
import ipaddress
import socket

import httpx

from schemas.settings import settings

WRAPPING_IPV4 = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::/96"))


class UnknownHost(Exception):
    """A host name that does not exist."""


class PrivateAddress(Exception):
    """A host on a private network, which LTX_FLOWS_ALLOW_PRIVATE_HOSTS would open."""


class PublicTransport(httpx.BaseTransport):
    """HTTP transport that sends a request to the address that was checked.

    Raises:
        UnknownHost, PrivateAddress: nothing is sent.
    """

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.inner.handle_request(_pinned(request))

    def close(self) -> None:
        self.inner.close()


class AsyncPublicTransport(httpx.AsyncBaseTransport):
    """`PublicTransport` for an asynchronous client."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(await asyncio.to_thread(_pinned, request))

    async def aclose(self) -> None:
        await self.inner.aclose()


def address_of(host: str, port: int | None) -> str:
    """The address to connect to; one that anybody may reach, unless LTX_FLOWS_ALLOW_PRIVATE_HOSTS opens all networks.

    Raises:
        UnknownHost, PrivateAddress: there is none.
        socket.gaierror: the name server does not answer now.
    """
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (socket.gaierror, ValueError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise
        raise UnknownHost(host) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not settings().allow_private_hosts and not all(map(is_public, addresses)):
        raise PrivateAddress(host)
    return min(addresses, key=lambda address: ":" in address)  # a machine without IPv6 may still be told of it


def _pinned(request: httpx.Request) -> httpx.Request:
    """A request sent to an address; its header and the certificate's check keep the name."""
    url = request.url
    extensions = {**request.extensions, "sni_hostname": url.host}
    return httpx.Request(
        request.method,
        url.copy_with(host=address_of(url.host, url.port)),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def is_public(address: str) -> bool:
    """Whether an address is on the public network; where an IPv4 address is embedded, whether that one is."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _embedded(ip)
        return is_public(str(inner)) if inner else ip.is_global and not ip.is_multicast and not ip.is_site_local
    return ip.is_global and not ip.is_multicast


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address to which a network's translator (NAT64) or an old tunnel would send this one."""
    wrapped = any(ip in network for network in WRAPPING_IPV4) and int(ip) > 1
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if wrapped else None

"""Downloads over http and https: redirects by hand, no way into the private network, resumed where they broke off."""

import ipaddress
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx

from schemas.settings import settings

if TYPE_CHECKING:
    from tasks.sources.fetch import Target

MOST_REDIRECTS = 5
RESUMES = 3
SECONDS_BETWEEN = 0.5
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
WRAPPING_IPV4 = tuple(ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::/96"))
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole URLs, and in them what signs them
REDIRECTS = (301, 302, 303, 307, 308)
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)


def fetch_web(url: str, target: "Target") -> None:
    """Fetch a URL; what has come stays when the connection breaks, if the server says that the file is the same.

    Raises:
        DownloadRejected: it must not be fetched, or the server refuses.
        DownloadInterrupted: it broke off more often than we try.
    """
    # No proxies from the environment: we connect to the address that was checked, and nowhere else.
    with httpx.Client(timeout=TIMEOUT, trust_env=False, verify=ssl.create_default_context()) as client:
        mark = ""
        for attempt in range(RESUMES + 1):
            try:
                mark = _attempt(client, url, target, mark)
            except _Broken as broken:
                mark = broken.mark
                reason = broken.reason
            else:
                return
            if attempt < RESUMES:
                time.sleep(SECONDS_BETWEEN * 2**attempt)
        raise target.interruption(reason)


class _Broken(Exception):
    """A try that failed, and the mark by which the server knows the version of which a part has come."""

    def __init__(self, reason: str, mark: str) -> None:
        super().__init__(reason)
        self.reason, self.mark = reason, mark


def _attempt(client: httpx.Client, url: str, target: "Target", mark: str) -> str:
    if target.done and not mark:
        target.restart()
    resume = {"Range": f"bytes={target.done}-", "If-Range": mark} if target.done else {}
    try:
        response = _open(client, url, target, {"Accept-Encoding": "identity", **resume})
        try:
            _check(response, target, mark)
            mark = _strong(response)
            _receive(response, target)
        finally:
            response.close()
    except (httpx.RequestError, OSError) as error:
        raise _Broken(type(error).__name__, mark) from error
    if target.total and target.done < target.total:
        raise _Broken("the connection was closed", mark)
    return mark


def _open(client: httpx.Client, url: str, target: "Target", headers: dict[str, str]) -> httpx.Response:
    """Follow redirects by hand: each hop is checked as the first one was."""
    for _ in range(MOST_REDIRECTS + 1):
        parts = _parsed(url, target)
        if parts.scheme not in ("http", "https"):
            raise target.refusal(f"it redirects to a {parts.scheme or 'relative'} URL")
        address = _address(parts, target)
        request = client.build_request(
            "GET",
            parts.copy_with(host=address),
            headers={**headers, "Host": parts.netloc.decode()},
            extensions={"sni_hostname": parts.host},  # the certificate is checked against the name
        )
        login = httpx.BasicAuth(parts.username, parts.password) if parts.userinfo else None
        response = client.send(request, stream=True, auth=login)
        if response.status_code not in REDIRECTS:
            return response
        response.close()
        url = _joined(url, str(response.headers.get("location", "")), target)
    raise target.refusal(f"more than {MOST_REDIRECTS} redirects")


def _parsed(url: str, target: "Target") -> httpx.URL:
    try:
        parts = httpx.URL(url)
        whole = bool(parts.host) and (parts.port or 1) < 65536  # glibc would take port 65616 for 80
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: of a name that idna does not know
        raise target.refusal("it is no valid URL") from error
    if parts.scheme in ("http", "https") and not whole:
        raise target.refusal("it is no valid URL")
    return parts


def _joined(url: str, location: str, target: "Target") -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise target.refusal("it redirects to no valid URL") from error


def _address(url: httpx.URL, target: "Target") -> str:
    """The address to connect to; names that lead into the private network are refused."""
    try:
        found = socket.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise
        raise target.refusal(f"there is no host {url.host}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not settings().allow_private_hosts and not all(is_public(address) for address in addresses):
        raise target.refusal(f"{url.host} is a private address; LTX_FLOWS_ALLOW_PRIVATE_HOSTS=true allows it")
    return min(addresses, key=lambda address: ":" in address)  # a machine without IPv6 may still be told of it


def is_public(address: str) -> bool:
    """Whether an address is on the public network, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _embedded(ip)
        return is_public(str(inner)) if inner else ip.is_global and not ip.is_multicast and not ip.is_site_local
    return ip.is_global and not ip.is_multicast


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a network's translator (NAT64) or an old tunnel would send this to."""
    wrapped = any(ip in network for network in WRAPPING_IPV4) and int(ip) > 1
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if wrapped else None


def _check(response: httpx.Response, target: "Target", mark: str) -> None:
    if response.status_code in MAY_PASS:
        raise _Broken(f"the server answered {response.status_code}", mark)
    if response.status_code == 416 or (response.status_code == 206 and not _continues(response, target)):
        raise _Broken("the server sent another part", "")
    if response.status_code not in (200, 206):
        raise target.refusal(f"the server answered {response.status_code} {response.reason_phrase}")


def _receive(response: httpx.Response, target: "Target") -> None:
    if response.status_code == 200:
        target.restart()  # the file has changed, or the server sends whole files only
    length = response.headers.get("content-length", "")
    known = length.isdigit() and "content-encoding" not in response.headers  # which some send although we ask for none
    target.expect(target.done + int(length) if known else 0)
    for chunk in response.iter_bytes():  # as it comes: nothing is lost when it breaks off
        target.write(chunk)


def _continues(response: httpx.Response, target: "Target") -> bool:
    return str(response.headers.get("content-range", "")).startswith(f"bytes {target.done}-")


def _strong(response: httpx.Response) -> str:
    """What names the version: a strong ETag, else the time of the last change; parts of a packed body fit nothing."""
    if "content-encoding" in response.headers:
        return ""
    tag = str(response.headers.get("etag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("last-modified", ""))

"""Downloads over http and https: redirects by hand, no way into the private network, resumed where they broke off."""

import logging
import ssl
import time
from urllib.parse import urljoin

import httpx

from tasks.sources.network import PrivateAddress, PublicTransport, UnknownHost
from tasks.sources.sink import Sink

MOST_REDIRECTS = 5
RESUMES = 3
SECONDS_BETWEEN = 0.5
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole URLs, and in them what signs them
REDIRECTS = (301, 302, 303, 307, 308)
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)


def fetch_web(url: str, sink: Sink) -> None:
    """Fetch a URL; a partial download is kept when the connection breaks, if the server says that the file is the same.

    Raises:
        DownloadRejected: it must not be fetched, or the server refuses.
        DownloadInterrupted: it broke off more often than we try.
    """
    # No proxies from the environment: we connect to the address that was checked, and nowhere else.
    transport = PublicTransport(httpx.HTTPTransport(verify=ssl.create_default_context(), trust_env=False))
    with httpx.Client(timeout=TIMEOUT, trust_env=False, transport=transport) as client:
        mark = ""
        for attempt in range(RESUMES + 1):
            try:
                mark = _attempt(client, url, sink, mark)
            except _Broken as broken:
                mark = broken.mark
                reason = broken.reason
            else:
                return
            if attempt < RESUMES:
                time.sleep(SECONDS_BETWEEN * 2**attempt)
        raise sink.interruption(reason)


class _Broken(Exception):
    """A failed try, with the mark that tells the server which version the partial download is of."""

    def __init__(self, reason: str, mark: str) -> None:
        super().__init__(reason)
        self.reason, self.mark = reason, mark


def _attempt(client: httpx.Client, url: str, sink: Sink, mark: str) -> str:
    if sink.done and not mark:
        sink.restart()
    resume = {"Range": f"bytes={sink.done}-", "If-Range": mark} if sink.done else {}
    try:
        response = _open(client, url, sink, {"Accept-Encoding": "identity", **resume})
        try:
            _check(response, sink, mark)
            mark = _strong(response)
            _receive(response, sink)
        finally:
            response.close()
    except (httpx.RequestError, OSError) as error:
        raise _Broken(type(error).__name__, mark) from error
    if sink.total and sink.done < sink.total:
        raise _Broken("the connection was closed", mark)
    return mark


def _open(client: httpx.Client, url: str, sink: Sink, headers: dict[str, str]) -> httpx.Response:
    """Open a URL, following redirects by hand: each hop is checked as the first one was."""
    for _ in range(MOST_REDIRECTS + 1):
        parts = _parsed(url, sink)
        if parts.scheme not in ("http", "https"):
            raise sink.refusal(f"it redirects to a {parts.scheme or 'relative'} URL")
        response = _sent(client, parts, sink, headers)
        if response.status_code not in REDIRECTS:
            return response
        response.close()
        url = _joined(url, str(response.headers.get("location", "")), sink)
    raise sink.refusal(f"more than {MOST_REDIRECTS} redirects")


def _sent(client: httpx.Client, url: httpx.URL, sink: Sink, headers: dict[str, str]) -> httpx.Response:
    login = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
    try:
        return client.send(client.build_request("GET", url, headers=headers), stream=True, auth=login)
    except UnknownHost as error:
        raise sink.refusal(f"there is no host {url.host}") from error
    except PrivateAddress as error:
        reason = f"{url.host} is a private address; LTX_FLOWS_ALLOW_PRIVATE_HOSTS=true allows it"
        raise sink.refusal(reason) from error


def _parsed(url: str, sink: Sink) -> httpx.URL:
    try:
        parts = httpx.URL(url)
        whole = bool(parts.host) and (parts.port or 1) < 65536  # glibc would take port 65616 for 80
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: of a name that idna does not know
        raise sink.refusal("it is no valid URL") from error
    if parts.scheme in ("http", "https") and not whole:
        raise sink.refusal("it is no valid URL")
    return parts


def _joined(url: str, location: str, sink: Sink) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise sink.refusal("it redirects to no valid URL") from error


def _check(response: httpx.Response, sink: Sink, mark: str) -> None:
    if response.status_code in MAY_PASS:
        raise _Broken(f"the server answered {response.status_code}", mark)
    if response.status_code == 416 or (response.status_code == 206 and not _continues(response, sink)):
        raise _Broken("the server sent another part", "")
    if response.status_code not in (200, 206):
        raise sink.refusal(f"the server answered {response.status_code} {response.reason_phrase}")


def _receive(response: httpx.Response, sink: Sink) -> None:
    if response.status_code == 200:
        sink.restart()  # the file has changed, or the server sends whole files only
    length = response.headers.get("content-length", "")
    known = length.isdigit() and "content-encoding" not in response.headers  # which some send although we ask for none
    sink.expect(sink.done + int(length) if known else 0)
    for chunk in response.iter_bytes():  # as it comes: nothing is lost when it breaks off
        sink.write(chunk)


def _continues(response: httpx.Response, sink: Sink) -> bool:
    return str(response.headers.get("content-range", "")).startswith(f"bytes {sink.done}-")


def _strong(response: httpx.Response) -> str:
    """Mark of a version: a strong ETag, else the time of the last change; none for a packed body (no parts fit)."""
    if "content-encoding" in response.headers:
        return ""
    tag = str(response.headers.get("etag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("last-modified", ""))

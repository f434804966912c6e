"""How fast a status is answered: `python benchmarks/api.py URL [--clients 200] [--seconds 60] [--key KEY] [--ca FILE]`.

URL is that of `ltx-flows serve`, with a run in progress. Submits nothing: each client polls one request of the history
every half second, as fal's JavaScript client does, and the answers' times are printed as percentiles.
"""

import argparse
import asyncio
import os
import re
import ssl
import time
from urllib.parse import urlsplit

import httpx

APP = "/fal-ai/ltx23-trainer-v2"
SECONDS_BETWEEN_POLLS = 0.5
CONNECTING = 0.02  # seconds from one client to the next


class Poller:
    """One client on one connection; plain streams, so that two cores are left to what is measured."""

    def __init__(self, url: str, path: str, key: str, trust: ssl.SSLContext | None) -> None:
        self.where, self.trust = urlsplit(url), trust
        head = (f"GET {path} HTTP/1.1", f"Host: {self.where.netloc}", f"Authorization: Key {key}", "", "")
        self.asked = "\r\n".join(head).encode()

    async def poll(self, until: float, first: float) -> list[float]:
        """Seconds of every answer."""
        await asyncio.sleep(first)
        reader, writer = await asyncio.open_connection(self.where.hostname, self.where.port, ssl=self.trust)
        taken = []
        while time.monotonic() < until:
            began = time.perf_counter()
            writer.write(self.asked)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")), head
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length
            await reader.readexactly(int(length[1]))
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(max(0.0, SECONDS_BETWEEN_POLLS - taken[-1]))
        writer.close()
        return taken


async def measure(asked: argparse.Namespace) -> None:
    trust = ssl.create_default_context(cafile=asked.ca) if asked.url.startswith("https") else None
    history = httpx.get(asked.url, headers={"Authorization": f"Key {asked.key}"}, verify=trust or True).text
    known = re.findall(r'href="/history/([0-9a-f-]{36})"', history)
    if not known:
        raise SystemExit("no request is known there; submit one, so that there is something to poll")
    paths = [f"{APP}/requests/{known[index % len(known)]}/status" for index in range(asked.clients)]
    connected = CONNECTING * asked.clients  # one after another, as clients come
    until = time.monotonic() + connected + asked.seconds
    pollers = [Poller(asked.url, path, asked.key, trust) for path in paths]
    polling = (each.poll(until, index * CONNECTING) for index, each in enumerate(pollers))
    taken = sorted(second for each in await asyncio.gather(*polling) for second in each)
    told = ", ".join(
        f"p{share} {taken[min(len(taken) - 1, len(taken) * share // 100)] * 1e3:.1f}" for share in (50, 95, 99)
    )
    print(f"{len(taken)} answers to {asked.clients} clients in {asked.seconds} s; load {os.getloadavg()[0]:.1f} on")
    print(f"{os.cpu_count()} cores: {told}, most {taken[-1] * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--key", default="any")
    parser.add_argument("--ca", help="certificate to trust, of `serve --tls-self-signed`")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()

"""A web server on loopback that answers as its paths say: cut off, busy, redirecting, endless."""

import contextlib
import gzip
import time
from http.server import BaseHTTPRequestHandler

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Site(BaseHTTPRequestHandler):
    """One file, broken in the ways that its path asks for."""

    breaks: int
    log: list

    def do_GET(self):
        type(self).log.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        name = self.path.split("?")[0].strip("/").split(".")[0]
        getattr(self, name, self.missing)()

    def file(self):
        self.answer(200, CONTENT)

    def page(self):
        self.answer(200, b"\n<!DOCTYPE html><html>sign in</html>")

    def missing(self):
        self.answer(404, b"")

    def away(self):
        self.answer(302, b"", Location="http://169.254.169.254/secret")

    def there(self):
        self.answer(302, b"", Location="/file.zip")

    def local(self):
        self.answer(302, b"", Location="file:///etc/passwd")

    def loop(self):
        self.answer(302, b"", Location="/loop")

    def nowhere(self):
        self.answer(302, b"", Location="http://[nowhere/a.zip")

    def endless(self):
        """No word of its length, and no end."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while True:
                self.wfile.write(CONTENT)

    def trickle(self):
        """A byte now and then."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.05)

    def packed(self):
        """Compressed although nobody asked for it; breaks off first."""
        body = gzip.compress(CONTENT[:5000])
        self.send_response(200)
        for header, value in {"Content-Encoding": "gzip", "ETag": '"v1"', "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body[: 100 if self.broken() else None])

    def garbled(self):
        self.answer(200, CONTENT, **{"Content-Encoding": "gzip"})

    def elsewhere(self):
        """Goes on, but at another place than it was told to."""
        part = self.headers.get("Range") and self.broken()
        self.send_response(206 if part else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(CONTENT)))
        if part:
            self.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(CONTENT[: 300_000 if not part and self.broken() else None])

    def busy(self):
        self.answer(503 if self.broken() else 200, CONTENT)

    def flaky(self):
        """Breaks off twice, and goes on where it was told to."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        rest = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(rest[: 300_000 if self.broken() else None])

    def changed(self):
        """Breaks off once; then the file is another one, and comes whole."""
        self.send_response(200)
        self.send_header("ETag", '"other"')
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000].swapcase() if self.broken() else CONTENT)

    def broken(self):
        type(self).breaks -= 1
        return type(self).breaks >= 0

    def answer(self, status, body, **headers):
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that refuses the file hangs up
            self.wfile.write(body)

    def log_message(self, *words):
        pass

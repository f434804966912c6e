"""An S3 service that fails now and then: a proxy before the real one that refuses, breaks off, cuts and dawdles."""

import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.support.answering import Answering

BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>Please reduce your request rate.</Message></Error>"
WRONG_KEY = b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message></Error>"
HOP = ("connection", "transfer-encoding", "keep-alive", "server", "date")


class Flaky(Answering):
    """Passes requests on, and fails a share of them as its dice say."""

    def __init__(self, behind, share, seed=0):
        self.behind, self.share, self.dice = urlsplit(behind), share, random.Random(seed)
        self.lock = threading.Lock()
        self.asked = self.failed = 0
        self.wrong_key, self.kinds = False, ("busy", "reset", "cut", "lost answer", "slow")
        flaky = self

        class Pass(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                flaky.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815  # the library's names

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pass)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def trouble(self):
        with self.lock:
            self.asked += 1
            if self.dice.random() >= self.share:
                return None
            self.failed += 1
            return self.dice.choice(self.kinds)

    def handle(self, request):
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        trouble = self.trouble()
        if self.wrong_key:
            self.answer(request, 403, {"Content-Type": "application/xml"}, WRONG_KEY)
        elif trouble == "busy":
            self.answer(request, 503, {"Content-Type": "application/xml"}, BUSY)
        elif trouble == "reset":
            self.hang_up(request)
        else:
            status, headers, content = self.behind_me(request, body)
            if trouble in ("slow", "hangs"):
                time.sleep(0.3 if trouble == "slow" else 3)
            if trouble == "lost answer":
                self.hang_up(request)
            else:
                self.answer(request, status, headers, content, cut=trouble == "cut" and len(content) > 1)

    def behind_me(self, request, body):
        connection = http.client.HTTPConnection(self.behind.hostname, self.behind.port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        connection.request(request.command, request.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        told = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
        connection.close()
        return answer.status, told, content

    def answer(self, request, status, headers, content, *, cut=False):
        request.send_response(status)
        length = headers.get("Content-Length", str(len(content))) if request.command == "HEAD" else str(len(content))
        for name, value in {**{k: v for k, v in headers.items() if k.lower() != "content-length"}}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", length)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.hang_up(request)

    def hang_up(self, request):
        request.close_connection = True
        try:
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster

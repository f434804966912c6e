"""A Hub of our own: one model at as many revisions as a test wants, behind the routes that huggingface_hub asks."""

import json
import re
import socket
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.answering import Answering

NAME = "ours/LTX-2.3-Diffusers"


class Hub(Answering):
    """The files of a folder, at a commit that a test may move."""

    def __init__(self, folder):
        self.folder, self.commit, self.asked, self.gated, self.down = Path(folder), "a" * 40, [], False, False
        hub = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            def do_HEAD(self):
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def fetched(self):
        """Files of which content was asked for."""
        return [path for method, path in self.asked if method == "GET" and "/resolve/" in path]

    def answer(self, request):
        if self.down:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        path = request.path.split("?")[0]
        self.asked.append((request.command, path))
        if self.gated:
            self.send(request, 403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif re.fullmatch(rf"/api/models/{NAME}(/revision/\w+)?", path):
            about = {"id": NAME, "sha": self.commit, "siblings": [], "tags": [], "private": False, "downloads": 0}
            self.send(request, 200, json.dumps(about | {"likes": 0}).encode(), {"Content-Type": "application/json"})
        elif path == f"/api/models/{NAME}/auth-check":
            self.send(request, 200, b"{}", {})
        elif re.fullmatch(rf"/api/models/{NAME}/tree/\w+", path):
            self.send(request, 200, json.dumps(self.tree()).encode(), {"Content-Type": "application/json"})
        elif found := re.fullmatch(rf"/{NAME}/resolve/\w+/(.*)", path):
            self.send_file(request, self.folder / found[1])
        else:
            self.send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def tree(self):
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            {"type": "file", "path": str(p.relative_to(self.folder)), "size": p.stat().st_size, "oid": self.tag(p)}
            for p in paths
        ]

    def tag(self, path):
        return sha1(path.read_bytes()).hexdigest()

    def send_file(self, request, path):
        headers = {"ETag": f'"{self.tag(path)}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        self.send(request, 200, path.read_bytes(), headers)

    def send(self, request, code, body, headers):
        request.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

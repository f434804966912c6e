"""Somebody else: a page from elsewhere in the same browser, another account of the machine."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


def as_nobody(doing):
    """What a process of another account finds."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, json.dumps(doing()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        found = told.read()
    os.waitpid(child, 0)
    return json.loads(found)


HOSTILE = """<!doctype html><title>hostile</title><script>
async function attack(prefect, api, deployment, request) {
  const told = [];
  const send = async (url, options) => {
    try { const answer = await fetch(url, options); told.push(answer.type === "opaque" ? "opaque" : answer.status); }
    catch { told.push("refused"); }
  };
  const text = { "Content-Type": "text/plain" }, json = { "Content-Type": "application/json" };
  const flow = JSON.stringify({ parameters: { request }, job_variables: { command: "touch /tmp/pwned" } });
  for (const mode of ["no-cors", "cors"]) {
    const headers = mode === "cors" ? json : text;
    const create = `${prefect}/api/deployments/${deployment}/create_flow_run`;
    await send(create, { method: "POST", mode, headers, body: flow });
    await send(`${api}/extend-prefix`, { method: "POST", mode, headers, body: JSON.stringify(request) });
  }
  await send(`${prefect}/api/flow_runs/count`, { method: "POST", mode: "cors", headers: json, body: "{}" });
  return told;
}
</script>"""


def answers(url):
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


class Page:
    """A page on another port."""

    def __init__(self, content):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever).start()
        return f"http://127.0.0.1:{self.server.server_port}/"

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

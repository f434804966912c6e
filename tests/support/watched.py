"""The API in this process on a port of its own, and Chromium before it: what a person sees and does."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from flows.service import register
from flows.service.app import create_app
from tasks.ledger import outcomes
from tests.support.browser import CHROMIUM, OPTIONS
from tests.support.service_app import APP, FakeRuns

AXE = Path(__file__).parents[1] / "clients" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
AUDIT = "() => axe.run().then(({violations}) => violations.map(({id, impact, nodes}) => " \
    "({id, impact, nodes: nodes.map(node => node.html)})))"  # fmt: skip
CUT_OFF = """() => [...document.querySelectorAll("main *, header *")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width && !element.closest(".wide, .unseen, .skip, pre, .file") && box.right > innerWidth + 1;
}).map(element => element.outerHTML.slice(0, 200))"""


class Watched:
    """The application, the hands that move its runs, and browsers before it."""

    def __init__(self, url, runs, chromium, key):
        self.url, self.runs, self.chromium = url, runs, chromium
        self.key = {"Authorization": f"Key {key}"} if key else {}

    def submit(self, endpoint, body):
        """Submit a request; its id, as soon as it has a run."""
        answer = httpx.post(f"{self.url}{APP}/{endpoint}", json=body, headers=self.key)
        request_id = answer.raise_for_status().json()["request_id"]
        until(lambda: request_id in self.runs.started)
        return request_id

    def begin(self, request_id):
        self.runs.move(self.runs.started[request_id], "Running")

    def end(self, request_id, result=None, error=None):
        run_id = self.runs.started[request_id]
        if result:
            outcomes.tell_result(run_id, result)
        if error:
            outcomes.tell_rejection(run_id, error)
        self.runs.move(run_id, "Completed" if result else "Rejected", final=True)
        until(lambda: self.status(request_id) == "COMPLETED")

    def status(self, request_id):
        return httpx.get(f"{self.url}{APP}/requests/{request_id}/status", headers=self.key).json()["status"]

    def asked(self, request_id):
        """What came of a request's body."""
        return register.get(request_id).body

    @contextmanager
    def browser(self, size="desk", scheme="light", **more):
        """A page in a browser of its own."""
        context = self.chromium.new_context(viewport=SIZES[size], color_scheme=scheme, **more)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.wrong = []
        page.on("console", lambda said: said.type == "error" and page.wrong.append(said.text))
        page.on("pageerror", lambda fault: page.wrong.append(str(fault)))
        yield page
        context.close()


@contextmanager
def watched(key=None):
    """The service and a browser, from its start to its end."""
    from playwright.sync_api import sync_playwright

    runs = FakeRuns()
    server = uvicorn.Server(uvicorn.Config(create_app(runs), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        with sync_playwright() as playwright:
            yield Watched(url, runs, playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS), key)
    finally:
        server.should_exit = True
        thread.join()


def serious_faults(page):
    """Accessibility faults of a page that axe-core calls serious or critical."""
    page.evaluate(AXE.read_text())
    return [fault for fault in page.evaluate(AUDIT) if fault["impact"] in SERIOUS]


def until(happens):
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)

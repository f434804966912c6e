"""Headless Chromium before Prefect's pages and ours; what it sees is kept as pictures under $SCREENSHOTS, if set."""

import os
import re
import shutil
import typing
from pathlib import Path

from schemas.endpoints import ENDPOINTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]

PLAY = """async player => {
    const moved = new Promise(done => player.addEventListener("timeupdate", () => player.currentTime > 0 && done()));
    player.muted = true;
    await player.play();
    await moved;
    return player.currentTime;
}"""


class Browser:
    """One page, used by one test after another."""

    def __init__(self, service):
        from playwright.sync_api import sync_playwright

        self.service, self.playwright = service, sync_playwright()
        self.pictures = Path(os.environ.get("SCREENSHOTS") or service.home.parent / "screenshots")

    def __enter__(self):
        self.chromium = self.playwright.__enter__().chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        self.page = self.chromium.new_page(viewport={"width": 1280, "height": 2800}, ignore_https_errors=True)
        self.page.set_default_timeout(60_000)
        self.page.goto(self.service.entrance)
        self.page.get_by_text("Dashboard").first.wait_for()
        return self

    def __exit__(self, *error):
        self.chromium.close()
        self.playwright.__exit__(*error)

    def keep(self, name):
        self.page.screenshot(path=self.pictures / f"{name.replace('/', '-')}.png")

    def form(self, name):
        """Open an endpoint's run form."""
        function = next(flow for flow in self.flows() if flow[0] == name)[1]
        self.page.goto(f"{self.service.pages}/deployments/deployment/{self.service.deployment(function)}/run")
        self.page.get_by_text("Training data", exact=True).wait_for()

    def flows(self):
        from flows.endpoints import FLOWS

        return [(name, FLOWS[name].fn.__name__) for name in ENDPOINTS]

    def fill(self, form, values):
        """Set the fields of a form, or of a box in it, as a person would; `form`: the model that it was made from."""
        for name, value in values.items():
            field = self.field(form.model_fields[name].title)
            if isinstance(value, list):
                (box,) = typing.get_args(form.model_fields[name].annotation)
                for item in value:
                    field.get_by_text("Add item").click()
                    self.fill(box, item)
            elif isinstance(value, bool):
                if field.get_by_role("switch").is_checked() != value:
                    field.get_by_role("switch").click()
            elif field.locator(".p-select").count():
                field.locator(".p-select button").press("Space")
                self.page.locator(".p-select-option").get_by_text(str(value), exact=True).click()
            else:
                if (kind := field.get_by_role("button", name="str", exact=True)).count():  # else it is None
                    kind.click()
                field.locator("input, textarea").first.fill(str(value))

    def field(self, title):
        """The innermost part of the form with this title."""
        label = re.compile(rf"^\s*{re.escape(title)}( \(Optional\))?\s*$")
        named = self.page.locator(".schema-form-property__label").filter(has_text=label)
        return self.page.locator(".schema-form-property").filter(has=named).last

    def said(self, name):
        """All that the form says of its fields."""
        self.keep(f"form-{name}")
        return self.page.inner_text("form")

    def submit(self):
        """Press the button; the id of the run that comes of it."""
        with self.page.expect_response(lambda response: response.url.endswith("/create_flow_run")) as created:
            self.page.get_by_role("button", name="Submit").click()
        return created.value.json()["id"]

    def open_run(self, run_id, tab):
        """A tab of a run's page; all that it says."""
        self.page.goto(f"{self.service.pages}/runs/flow-run/{run_id}?tab={tab}")
        self.page.get_by_text(tab, exact=True).first.click()
        self.page.wait_for_load_state("networkidle")
        self.keep(f"run-{tab.replace(' ', '-').lower()}-{run_id}")
        return self.page.inner_text("body")

    def width_of_picture(self, artifact):
        """How wide the picture on an artifact's page is: 0 where it does not render."""
        self.page.goto(f"{self.service.pages}/artifacts/artifact/{artifact['id']}")
        picture = self.page.locator("img[src^='data:image/svg']")
        picture.wait_for()
        self.keep(f"artifact-{artifact['key']}")
        return picture.evaluate("image => image.naturalWidth")

    def history(self):
        """Our own page; all that it says."""
        self.page.goto(self.service.urls["history"])
        self.keep("history")
        return self.page.inner_text("main")

    def seconds_played(self, request_id):
        """Play a request's preview for a moment."""
        self.page.goto(f"{self.service.urls['history']}history/{request_id}")
        seconds = self.page.locator("audio, video").evaluate(PLAY)
        self.keep("history-request")
        return seconds

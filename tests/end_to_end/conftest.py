"""One service for a file of tests: killed in the middle of its work, started again, looked at in a browser."""

import pytest

from flows.endpoints import FLOWS
from schemas.endpoints import ENDPOINTS
from tests.support.browser import CHROMIUM, Browser
from tests.support.requests import small_requests
from tests.support.service import Service, small_request, until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def request_body(folder):
    (folder / "files").mkdir()
    return small_request(folder / "files")


@pytest.fixture(scope="module")
def killed(folder, request_body, prefect_database):
    """A service killed while one request trained and one waited; and the requests."""
    prefect_database.copy_to(folder / "home" / "prefect")
    service = Service(folder / "home", folder / "files")
    try:
        requests = [service.submit("audio-extend-prefix", request_body) for _ in range(2)]
        until(service.trains)
        service.kill()
        yield service, requests
    finally:
        service.stop()


@pytest.fixture(scope="module")
def service(killed, request_body):
    """The same one, started again, when both have ended."""
    service, requests = killed
    until(lambda: service.processes() == [])
    service.start()
    service.runs = [service.finished(request) for request in requests]
    service.results = [service.result(request) for request in requests]
    service.body = request_body
    service.unheard = service.cancelling("audio_extend_prefix", request_body)  # looked at below, much later
    return service


@pytest.fixture(scope="module")
def browser(service):
    if CHROMIUM is None:
        yield None
        return
    with Browser(service) as browser:
        yield browser


@pytest.fixture(scope="module")
def forms():
    """What each run form says."""
    return {}


@pytest.fixture(scope="module")
def trained(request, service, browser, forms):
    """A finished run of every endpoint that a test names, each started by its form where there is a browser."""
    (service.files / "small").mkdir()
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    asked = {item.callspec.params.get("name") for item in here}
    requests = {name: body for name, body in small_requests(service.files / "small").items() if name in asked}
    started = {}
    for name, body in requests.items():
        if browser is None:
            started[name] = service.start_run(FLOWS[name].fn.__name__, {"request": body})
            continue
        browser.form(name)
        browser.fill(ENDPOINTS[name].request, body)
        forms[name] = browser.said(name)
        started[name] = browser.submit()
    runs = {name: service.finished(run_id) for name, run_id in started.items()}
    for name, run in runs.items():
        assert ENDPOINTS[name].read(run["parameters"]["request"]) == ENDPOINTS[name].read(requests[name])
        assert run["state"]["name"] == "Completed", run["state"]
    return runs

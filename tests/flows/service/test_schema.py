"""What schemathesis makes of the OpenAPI document: every route is sent what it takes, and what it does not take."""

import threading
import time

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flows.service.app import create_app
from schemas.settings import settings
from tests.support.service_app import APP, BODY, FakeRuns

pytestmark = pytest.mark.slow(seconds=30)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_dict(create_app(FakeRuns()).openapi())
known: dict[str, str] = {}  # a request and an upload that exist


@schema.hook
def map_path_parameters(context, path_parameters):
    """One request, and one upload, in two exists."""
    named = [name for name in path_parameters or {} if name in known]
    if not any(len(path_parameters[name]) % 2 for name in named):
        return path_parameters
    return path_parameters | {name: known[name] for name in named}


class Short(FakeRuns):
    """Runs that end as soon as they have begun: a request that waits for its result has its answer soon."""

    async def start(self, entry):
        run_id = await super().start(entry)
        self.move(run_id, "Cancelled", final=True)
        return run_id


@pytest.fixture(autouse=True)
def home():
    """What exists is in the home of `served`."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The application on loopback, with a request that was cancelled and an upload that was begun."""
    server = uvicorn.Server(uvicorn.Config(create_app(Short()), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTX_FLOWS_SUBMISSIONS_PER_MINUTE", "100000")
        patch.setenv("LTX_FLOWS_HOME", str(tmp_path_factory.mktemp("home")))
        settings.cache_clear()
        thread.start()
        while not server.started:
            time.sleep(0.05)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        answer = httpx.post(f"{url}{APP}/extend-prefix", json=BODY).json()
        httpx.put(f"{url}{APP}/requests/{answer['request_id']}/cancel")
        upload = httpx.post(f"{url}/files/upload/multipart").json()["uploadId"]
        known.update(request_id=answer["request_id"], upload_id=upload, again=upload)
        yield url
        server.should_exit = True
        thread.join()
    settings.cache_clear()


@seed(7)
@schema.parametrize()
@hypothesis_settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_route_breaks_or_answers_what_the_document_does_not_say(case, served):
    case.call_and_validate(base_url=served, checks=CHECKS)

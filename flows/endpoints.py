"""One flow per endpoint, so that Prefect's pages show its own form and its own runs. Made from ENDPOINTS."""

from typing import Any

from tasks.bulk_import import in_bulk

with in_bulk():
    from prefect import Flow, flow, runtime

    from flows.pipeline import Outcome, run_endpoint
    from schemas.endpoint import Endpoint
    from schemas.endpoints import ENDPOINTS
    from schemas.request import TrainRequest


def _flow_of(endpoint: Endpoint[Any]) -> Flow[..., Any]:
    """The flow of an endpoint, as if written out here: Prefect makes its form from the signature."""

    def train(request: TrainRequest) -> Outcome:
        return run_endpoint(endpoint, request)

    def run_name() -> str:
        return endpoint.run_name(runtime.flow_run.parameters["request"].trigger_phrase)

    train.__name__ = train.__qualname__ = endpoint.flow_name
    train.__doc__ = endpoint.summary
    train.__annotations__ = {"request": endpoint.request, "return": Outcome}
    return flow(name=endpoint.flow_title, flow_run_name=run_name)(train)


FLOWS: dict[str, Flow[..., Any]] = {name: _flow_of(endpoint) for name, endpoint in ENDPOINTS.items()}
globals().update({made.fn.__name__: made for made in FLOWS.values()})  # where entrypoints of deployments look

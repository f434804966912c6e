"""A local run: one run of a flow in this process, under a Prefect run of its own or the one that was cut off."""

import sys
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flow_engine import run_flow_sync
from prefect.logging.handlers import APILogWorker
from prefect.states import Pending

from flows.endpoints import FLOWS
from flows.reuse import reused_steps
from flows.unfinished import Unfinished
from schemas.endpoints import ENDPOINTS
from schemas.errors import ServerUnavailable
from schemas.redaction import in_a_line, without_secrets
from schemas.request import TrainRequest
from schemas.result import TrainingResult
from tasks.run_id import DELIVERED_AS


def run_here(endpoint: str, request: TrainRequest, note: Unfinished) -> Any:
    """Run an endpoint's flow to its end; return its result, or raise the error that it ended with.

    Raises:
        ServerUnavailable: the Prefect server died meanwhile.
    """
    try:
        state = run_or_continue(FLOWS[endpoint], request, note, ENDPOINTS[endpoint].run_name(request.trigger_phrase))
        outcome = state.result(raise_on_failure=False)
        APILogWorker.drain_all(timeout=5)  # before the server ends
        if state.state_details.flow_run_id and (reused := reused_steps(state.state_details.flow_run_id)):
            print(f"reused from earlier runs: {', '.join(reused)}", file=sys.stderr)
        if isinstance(outcome, TrainingResult):
            tell_samples(outcome)
    except (httpx.HTTPError, PrefectException) as error:
        raise ServerUnavailable(
            f"the Prefect server does not answer any more ({in_a_line(error)}); "
            "typed again, the run goes on where it was"
        ) from error
    return outcome


def tell_samples(result: TrainingResult) -> None:
    """Tell on the terminal how many samples the result was trained on, and what else has to be known of it."""
    if counts := result.samples:
        told = (
            f"{counts.kept} samples trained on, {counts.skipped} skipped, {counts.warned} of those kept with a warning"
        )
        print(f"{told}; {result.dataset_report.file_name} says why", file=sys.stderr)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def run_or_continue(
    flow: Flow[..., Any], request: TrainRequest, note: Unfinished, name: str | None = None
) -> State[Any]:
    """Run the flow to its end.

    Prefect keeps a run's parameters, so its copy of the request has no secrets in its URLs. A run that Prefect has lost
    goes on as another one of Prefect's, and delivers and is billed under its first id.
    """
    with get_client(sync_client=True) as client:
        run = _cut_off(client, note.last_run())
        if run is None:
            asked = {"request": without_secrets(request.model_dump(mode="json"))}
            run = client.create_flow_run(flow, parameters=asked, state=Pending(), name=name)
            note.begin(run.id)
    mark = DELIVERED_AS.set(str(note.first_run()))
    try:
        ended = run_flow_sync(flow, flow_run=run, parameters={"request": request}, return_type="state")
    finally:
        DELIVERED_AS.reset(mark)
    assert isinstance(ended, State)
    return ended


def _cut_off(client: SyncPrefectClient, run_id: UUID | None) -> FlowRun | None:
    """The run to continue, ready to begin again; None where there is none, or this server does not know it."""
    if run_id is None:
        return None
    try:
        client.set_flow_run_state(run_id, Pending(message="continued"), force=True)
        run = client.read_flow_run(run_id)
    except ObjectNotFound:
        return None
    print(f"continuing run {run_id}, which was cut off, with the data that it had downloaded", file=sys.stderr)
    return run

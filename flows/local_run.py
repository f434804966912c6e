"""A local run: one run of a flow in this process, under a Prefect run of its own or the one that was cut off."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
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
from schemas.errors import ServerUnavailable
from schemas.redaction import in_a_line, without_secrets
from schemas.rejections import InputRejected
from schemas.request import TrainRequest
from schemas.settings import settings
from tasks.run_id import DELIVERED_AS
from tasks.storage.durable import make_folder, on_disk
from tasks.storage.locks import is_in_place, try_lock

SECONDS_TO_DIE = 5.0  # a process that was killed gives its gigabytes back first, then its locks
SECONDS_BETWEEN_LOOKS = 0.1


class Unfinished:
    """Note of the run that this process works on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def first_run(self) -> UUID | None:
        """Id of the run that was cut off, under which files are delivered and billed; None where this one is new."""
        runs = self._runs()
        return runs[0] if runs else None

    def last_run(self) -> UUID | None:
        """Id of the Prefect run to go on with: another one where Prefect has lost the first."""
        runs = self._runs()
        return runs[-1] if runs else None

    def begin(self, run_id: UUID) -> None:
        """Note a run as the one to continue from here on, also after a power cut."""
        runs = [*self._runs()[:1], run_id]
        self.path.write_text("\n".join(map(str, dict.fromkeys(runs))))
        on_disk(self.path)
        on_disk(self.path.parent)

    def _runs(self) -> list[UUID]:
        try:
            return [UUID(line) for line in self.path.read_text().splitlines()]
        except ValueError:  # cut off while it was written: the run had not begun
            return []


def run_here(endpoint: str, request: TrainRequest, note: Unfinished) -> Any:
    """Run an endpoint's flow to its end; return its result, or raise the error that it ended with.

    Raises:
        ServerUnavailable: the Prefect server died meanwhile.
    """
    try:
        state = run_or_continue(FLOWS[endpoint], request, note)
        outcome = state.result(raise_on_failure=False)
        APILogWorker.drain_all(timeout=5)  # before the server ends
        if state.state_details.flow_run_id and (reused := reused_steps(state.state_details.flow_run_id)):
            print(f"reused from earlier runs: {', '.join(reused)}", file=sys.stderr)
    except (httpx.HTTPError, PrefectException) as error:
        raise ServerUnavailable(
            f"the Prefect server does not answer any more ({in_a_line(error)}); "
            "typed again, the run goes on where it was"
        ) from error
    return outcome


def run_or_continue(flow: Flow[..., Any], request: TrainRequest, note: Unfinished) -> State[Any]:
    """Run the flow to its end.

    Prefect keeps a run's parameters, so its copy of the request has no secrets in its URLs. A run that Prefect has lost
    goes on as another one of Prefect's, and delivers and is billed under its first id.
    """
    with get_client(sync_client=True) as client:
        run = _cut_off(client, note.last_run())
        if run is None:
            asked = {"request": without_secrets(request.model_dump(mode="json"))}
            run = client.create_flow_run(flow, parameters=asked, state=Pending())
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


@contextmanager
def unfinished(endpoint: str, request: TrainRequest) -> Iterator[Unfinished]:
    """The note of this request; removed when the `with` block has told the outputs, or that the request is wrong."""
    folder = settings().home_folder / "runs"
    make_folder(folder)
    with _first_free(folder, _asked(endpoint, request)) as path:
        try:
            yield Unfinished(path)
        except InputRejected:
            path.unlink()
            raise
        path.unlink()


def _asked(endpoint: str, request: TrainRequest) -> str:
    told = settings()
    places = (told.outputs_url, told.store_url, told.ledger_url, told.base_model)
    return hashlib.sha256("\n".join((endpoint, request.model_dump_json(), *places)).encode()).hexdigest()


@contextmanager
def _first_free(folder: Path, name: str) -> Iterator[Path]:
    """The first note of the name that no living process holds."""
    for number in count():
        path = folder / f"{name}-{number}"
        # not taken over while its holder dies: the same request would become a second run, and a second bill
        if (handle := _taken(path)) is None:
            continue
        try:
            if is_in_place(path, handle):
                yield path
                return
        finally:
            os.close(handle)


def _taken(path: Path) -> int | None:
    """Lock a note, once a holder that is dying has gone; None where the holder lives on."""
    deadline = time.monotonic() + SECONDS_TO_DIE
    while (handle := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return handle

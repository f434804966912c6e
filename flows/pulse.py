"""The pulse of a live run: a run that is taken for dead, because its server was away, is set to Running again.

A run that goes on elsewhere, or was cancelled without notice, ends its process: no two processes do the same work.
"""

import contextvars
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Running

from tasks.board import UNREACHABLE

SECONDS_BETWEEN_LOOKS = 15.0
TAKEN_FOR_DEAD = (StateType.CRASHED, StateType.SCHEDULED, StateType.PENDING)
log = logging.getLogger("ltx_flows.run")


@contextmanager
def alive() -> Iterator[None]:
    """Look after this process's run during the `with` block, if a worker has started the run."""
    if runtime.deployment.id is None:
        yield
        return
    pulse = Pulse(UUID(runtime.flow_run.id), runtime.flow_run.run_count)
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(pulse.beat,), name="pulse", daemon=True
    )  # in this context, which knows the server
    thread.start()
    try:
        yield
    finally:
        pulse.ended.set()
        thread.join()
        pulse.look()


class Pulse:
    """One run at one try: the number of its starts when this process began."""

    def __init__(self, run_id: UUID, tries: int) -> None:
        self.run_id, self.tries = run_id, tries
        self.ended = threading.Event()

    def beat(self) -> None:
        """Look now and then, until the run ends."""
        while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
            self.look()

    def look(self) -> None:
        """Correct the run's state on the server; do nothing while the server does not answer."""
        try:
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(self.run_id)
                if run.run_count > self.tries:
                    self._leave("it goes on in another process")
                elif run.state_type is StateType.CANCELLED:
                    self._leave("it was cancelled")
                elif run.state_type in TAKEN_FOR_DEAD:
                    self._come_back(client, run)
        except UNREACHABLE:
            pass  # the next look tells

    def _come_back(self, client: SyncPrefectClient, run: FlowRun) -> None:
        log.warning("this run was taken for dead (%s); it goes on", run.state_name)
        client.set_flow_run_state(self.run_id, Running(message="it was alive all the time"), force=True)
        self.tries = client.read_flow_run(self.run_id).run_count

    def _leave(self, why: str) -> None:
        """Exit at once, with all that this process has started; the run's state belongs to others now."""
        log.warning("this process ends: %s", why)
        os._exit(0)

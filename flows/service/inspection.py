"""Inspection of queued requests whose data sets are already here: a 422 does not wait for the GPU."""

import asyncio
import logging
from typing import Protocol
from urllib.parse import urlsplit

from flows.plan import plan_run
from flows.service.register import Entry
from schemas.endpoints import ENDPOINTS
from schemas.errors import LtxFlowsError
from schemas.rejections import InputRejected
from tasks.ledger.outcomes import tell_rejection
from tasks.sources.fetch import urls_in
from tasks.sources.upload_url import SCHEME

SECONDS_BETWEEN_LOOKS = 0.2  # for its run
AT_ONCE = 2  # beside a training, which needs the machine more
HERE = (SCHEME, "file", "data", "")
log = logging.getLogger("ltx_flows.service")


class Rejecting(Protocol):
    """Protocol for rejecting runs, all that inspection needs of Prefect."""

    async def reject(self, run_id: str, message: str) -> bool:
        """End a run that has not begun as Rejected; False where it had begun."""
        ...


class Inspector:
    """Inspects one data set after the other."""

    def __init__(self, runs: Rejecting) -> None:
        self.runs, self.slots = runs, asyncio.Semaphore(AT_ONCE)

    async def look(self, entry: Entry) -> None:
        """Reject a queued request whose data are wrong; a run that has begun will find out by itself."""
        if not is_here(entry):
            return
        async with self.slots:
            fault = await asyncio.to_thread(fault_of, entry)
        while fault and entry.run_id is None and not entry.ended_at:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        if fault is None or entry.run_id is None or entry.started_at or entry.ended_at:
            return
        await asyncio.to_thread(tell_rejection, entry.run_id, fault)
        if await self.runs.reject(entry.run_id, f"422 {fault}"):
            log.info("request %s is rejected before it began", entry.id)


def is_here(entry: Entry) -> bool:
    """Whether nothing has to be downloaded for a request."""
    return all(urlsplit(url).scheme in HERE for url, _ in urls_in(entry.body))


def fault_of(entry: Entry) -> InputRejected | None:
    """The error that would end the request's run, as far as probing shows."""
    endpoint = ENDPOINTS[entry.endpoint]
    try:
        plan_run(endpoint, endpoint.read(entry.body))
    except InputRejected as fault:
        return fault
    except (LtxFlowsError, OSError) as error:  # the run tries again, and says so
        log.warning("the data of request %s could not be looked at: %s", entry.id, error)
    return None

"""`ltx-flows plan` over HTTP: what a request would train on and cost. Nothing is queued, nothing is billed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse

from flows.plan import plan_run
from flows.service.auth import Submitter
from flows.service.openapi import BUSY, FAULTS, KEYS, body_of
from flows.service.request_body import read_request
from flows.service.routes.queue import APP
from schemas.endpoint import Endpoint
from schemas.endpoints import ENDPOINTS
from schemas.report import PlanAnswer
from schemas.request import TrainRequest
from tasks.sources.sink import within

AT_ONCE = 6  # data sets are downloaded and probed for them
MOST_PER_KEY = 3
DOWNLOAD_SECONDS = 900.0  # of all files of one plan
SECONDS_TO_WAIT = 5
router = APIRouter(tags=["plan"])


class Slots:
    """Slots for plans: so many at once, in their own threads, fewer of one key: a slow server holds up nobody else."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="plan")
        self.going: Counter[str] = Counter()

    async def plan(self, owner: str, endpoint: Endpoint[Any], asked: TrainRequest) -> PlanAnswer:
        """Plan a request when a slot is free.

        Raises:
            HTTPException: 429, this key has too many plans that are not made yet.
            InputRejected: for the reasons that would end the run.
        """
        async with self._one_of(owner):
            return await asyncio.get_running_loop().run_in_executor(self.threads, _plan, endpoint, asked)

    @asynccontextmanager
    async def _one_of(self, owner: str) -> AsyncIterator[None]:
        if self.going[owner] >= MOST_PER_KEY:
            raise HTTPException(
                429,
                f"{MOST_PER_KEY} plans of this key are being made; ask again when one is there",
                headers={"Retry-After": str(SECONDS_TO_WAIT)},
            )
        self.going[owner] += 1
        try:
            yield
        finally:
            self.going[owner] -= 1


def _plan(endpoint: Endpoint[Any], asked: TrainRequest) -> PlanAnswer:
    with within(DOWNLOAD_SECONDS):
        return plan_run(endpoint, asked)


def _add_endpoint(name: str) -> None:
    endpoint = ENDPOINTS[name]

    @router.post(
        f"{APP}/plan/{name}",
        name=f"plan {name}",
        operation_id=f"plan_{name.replace('/', '_').replace('-', '_')}",
        summary=f"What {endpoint.path} would train on, and what it would cost",
        openapi_extra=body_of(endpoint.request.__name__),
        response_model=PlanAnswer,
        responses=FAULTS | KEYS | BUSY,
    )
    async def plan(request: Request, owner: Submitter) -> Any:
        asked = endpoint.read(await read_request(request, endpoint, owner))
        slots: Slots = request.app.state.plans
        answer = await slots.plan(owner, endpoint, asked)
        return JSONResponse(answer.model_dump(mode="json"))


for _name in ENDPOINTS:
    _add_endpoint(_name)

"""`ltx-flows plan` over HTTP: what a request would train on and cost. Nothing is queued, nothing is billed."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from flows.plan import plan_run
from flows.service.answers import BUSY, FAULTS, KEYS, body_of
from flows.service.intake import read_request
from flows.service.keys import Submitter
from flows.service.queue import APP
from schemas.endpoints import ENDPOINTS
from schemas.result import PlanAnswer

router = APIRouter(tags=["plan"])


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
        answer = await run_in_threadpool(plan_run, endpoint, asked)
        return JSONResponse(answer.model_dump(mode="json"))


for _name in ENDPOINTS:
    _add_endpoint(_name)

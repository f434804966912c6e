"""`fal.run`: a request whose answer is its result. For short trainings; the connection stays open until the end.

Clients that give up waiting ask again, up to ten times: who asks for the same again waits for the same training.
"""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from flows.service.auth import Submitter
from flows.service.openapi import BUSY, FAULTS, KEYS, Problem, Responses, body_of
from flows.service.register import Entry
from flows.service.routes.queue import APP, answer_of, asked_for, watcher_of
from flows.service.watcher import Watcher
from schemas.endpoints import ENDPOINTS

DIRECT = "/run"  # before the path; FAL_RUN_HOST ends with it
SECONDS_BETWEEN_LOOKS = 5.0  # whether the client still waits
ENDED: Responses = {
    200: {"description": "The result", "content": {"application/json": {}}},
    400: {"model": Problem, "description": "It was cancelled"},
    500: {"description": "The run failed"},
    504: {"model": Problem, "description": "It did not start in the time that its client gives it"},
}
SAME_AGAIN = timedelta(minutes=10)
router = APIRouter(tags=["queue"])


def _add_endpoint(name: str) -> None:
    endpoint = ENDPOINTS[name]

    @router.post(
        f"{DIRECT}{APP}/{name}",
        name=f"run {name}",
        operation_id=f"run_{name.replace('/', '_').replace('-', '_')}",
        summary=f"Train by {endpoint.path} and wait for the result",
        openapi_extra=body_of(endpoint.request.__name__),
        response_class=Response,
        responses=FAULTS | KEYS | BUSY | ENDED,
    )
    async def run(request: Request, owner: Submitter, fal_webhook: Annotated[str | None, Query()] = None) -> Any:
        entry = await asked_for(request, endpoint, owner, fal_webhook)
        watcher = watcher_of(request)
        mark = sha256(json.dumps([entry.endpoint, entry.body], sort_keys=True).encode()).hexdigest()
        async with watcher.joining:
            known = _same(watcher, entry.owner, mark)
            if known is None:
                marked = entry.model_copy(update={"idempotency_key": f"run {mark} {uuid4().hex}"})
                known = await watcher.submit(marked)
        while not known.ended_at and not await request.is_disconnected():
            await watcher.wait(lambda: known.ended_at is not None, SECONDS_BETWEEN_LOOKS)
        return answer_of(known)


for _name in ENDPOINTS:
    _add_endpoint(_name)


def _same(watcher: Watcher, owner: str, mark: str) -> Entry | None:
    """The earlier request that this one repeats."""
    since = datetime.now(UTC) - SAME_AGAIN
    for entry in watcher.entries.values():
        key = entry.idempotency_key or ""
        if entry.owner == owner and key.startswith(f"run {mark} ") and (entry.ended_at or since) >= since:
            return entry
    return None

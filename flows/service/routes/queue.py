"""The queue as clients of the hosted endpoints speak to it: submit, status, stream, result, cancel.

Source: docs/http-contract.md, sections 1 and 2. Follow-up URLs leave out the endpoint's own path.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from flows.hosting.queues import QUEUES
from flows.service.auth import Owner, Submitter
from flows.service.endings import TOO_LATE
from flows.service.links import origin, public
from flows.service.openapi import BUSY, FAULTS, KEYS, UNKNOWN, CancelAnswer, Problem, StatusAnswer, Submitted, body_of
from flows.service.register import Entry, LogLine, entry_of
from flows.service.request_body import read_request
from flows.service.watcher import Watcher
from flows.service.webhooks import Forbidden, check_webhook
from schemas.endpoint import Endpoint
from schemas.endpoints import ENDPOINTS
from schemas.rejections import Detail, RequestRejected

APP = "/fal-ai/ltx23-trainer-v2"
SECONDS_BETWEEN_SIGNS = 15.0  # of life, on a stream that has nothing to say
LARGEST_KEY = 256
LONGEST_WAIT = 366 * 24 * 3600
router = APIRouter(tags=["queue"])


def watcher_of(request: Request) -> Watcher:
    """The application's watcher."""
    watcher: Watcher = request.app.state.watcher
    return watcher


def _add_endpoint(name: str) -> None:
    endpoint = ENDPOINTS[name]

    @router.post(
        f"{APP}/{name}",
        name=f"submit {name}",
        operation_id=f"submit_{name.replace('/', '_').replace('-', '_')}",
        summary=f"Train by {endpoint.path}",
        description=(endpoint.request.__doc__ or "").strip(),
        openapi_extra=body_of(endpoint.request.__name__),
        response_model=Submitted,
        responses=FAULTS | KEYS | BUSY | {409: {"model": Problem, "description": "Its key came with another request"}},
    )
    async def submit(request: Request, owner: Submitter, fal_webhook: Annotated[str | None, Query()] = None) -> Any:
        asked = await asked_for(request, endpoint, owner, fal_webhook)
        entry = await watcher_of(request).submit(asked)
        if (entry.endpoint, entry.body) != (asked.endpoint, asked.body):
            raise HTTPException(409, "this Idempotency-Key came with another request before; send a new key")
        told = {"status": entry.status, "request_id": entry.id, "gateway_request_id": entry.id} | urls(request, entry)
        return JSONResponse(told | {"queue_position": entry.queue_position}, headers=named(entry))


async def asked_for(request: Request, endpoint: Endpoint[Any], owner: str, webhook: str | None) -> Entry:
    """The request that a client asks for, checked, and not yet recorded.

    Raises:
        InputRejected: with every fault of the body, or one of the query or the headers.
        HTTPException: 415, the body does not say that it is JSON.
    """
    body = await read_request(request, endpoint, owner)
    await _check_webhook(webhook)
    return entry_of(
        endpoint.path.removeprefix("/"),
        body,
        owner=owner,
        origin=origin(request),
        webhook=webhook,
        idempotency_key=_idempotency_key(request),
        start_by=_start_by(request),
        priority=_priority(request),
    )


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LARGEST_KEY:
        fault = f"has {len(key)} characters; 1 to {LARGEST_KEY} are allowed"
        raise RequestRejected([Detail(loc=("header", "idempotency-key"), msg=fault, type="string_too_long")])
    return key


def _priority(request: Request) -> str:
    """The queue that a client asks for; clients of the hosted endpoints send `normal` unasked."""
    given = request.headers.get("x-fal-queue-priority", "normal").lower()
    if given not in QUEUES:
        fault = f"is {given[:40]!r}; allowed are {' and '.join(QUEUES)}"
        raise RequestRejected([Detail(loc=("header", "x-fal-queue-priority"), msg=fault, type="literal_error")])
    return given


def _start_by(request: Request) -> datetime | None:
    """Time until which the client wants to wait for the run's start."""
    given = request.headers.get("x-fal-request-timeout")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        fault = f"is {given[:40]!r}; a number of seconds above 0 and up to {LONGEST_WAIT} is allowed"
        raise RequestRejected([Detail(loc=("header", "x-fal-request-timeout"), msg=fault, type="float_type")])
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def _check_webhook(url: str | None) -> None:
    """Refuse a webhook that cannot be sent, at once, as nobody would hear of it later."""
    try:
        if url:
            await asyncio.to_thread(check_webhook, url)
    except Forbidden as reason:
        fault = Detail(loc=("query", "fal_webhook"), msg=str(reason), type="url_not_allowed", input=url)
        raise RequestRejected([fault]) from reason


for _name in ENDPOINTS:
    _add_endpoint(_name)


@router.get(
    f"{APP}/requests/{{request_id}}/status",
    summary="How far a request is",
    response_model=StatusAnswer,
    responses=KEYS | UNKNOWN | {202: {"model": StatusAnswer, "description": "It has not ended"}} | FAULTS,
)
async def status(request: Request, request_id: str, owner: Owner, logs: Annotated[bool, Query()] = False) -> Any:
    """Cheap: read from memory, so that it may be asked ten times a second."""
    entry = await found(request, request_id, owner)
    code = 200 if entry.status == "COMPLETED" else 202
    lines = entry.logs if logs else None
    return JSONResponse(standing(request, entry, lines), status_code=code, headers=named(entry))


@router.get(
    f"{APP}/requests/{{request_id}}/status/stream",
    summary="How far a request is, told whenever it changes",
    response_class=StreamingResponse,
    responses=KEYS | UNKNOWN | FAULTS | {200: {"content": {"text/event-stream": {}}}},
)
async def stream(request: Request, request_id: str, owner: Owner, logs: Annotated[bool, Query()] = False) -> Response:
    """Server-sent events, until the request has ended."""
    entry = await found(request, request_id, owner)
    return StreamingResponse(_events(request, entry, logs), media_type="text/event-stream", headers=named(entry))


@router.get(
    f"{APP}/requests/{{request_id}}",
    summary="The result of a request",
    responses=KEYS | UNKNOWN | FAULTS | {400: {"model": Problem}, 500: {"description": "The run failed"}},
)
async def result(request: Request, request_id: str, owner: Owner) -> Response:
    """The result, or the status and body with which the run failed."""
    return answer_of(await found(request, request_id, owner))


def answer_of(entry: Entry) -> Response:
    """The result of a request, the error with which it ended, or the answer that it has not ended."""
    if entry.answer is None or entry.code is None:
        return JSONResponse({"detail": "Request is still in progress"}, status_code=400, headers=named(entry))
    headers = named(entry)
    if entry.code == 200:
        headers["x-fal-billable-units"] = str(entry.answer["billing"]["billable_units"])
        return JSONResponse(public(entry, entry.answer), headers=headers)
    headers |= {"x-fal-billable-units": "0", "X-Fal-Retryable": "false"}
    if "error_type" in entry.answer:
        headers["X-Fal-Error-Type"] = entry.answer["error_type"]
    if entry.code == TOO_LATE[0]:
        headers["X-Fal-Request-Timeout-Type"] = "user"  # its clients then do not ask again
    return JSONResponse(entry.answer, status_code=entry.code, headers=headers)


@router.put(
    f"{APP}/requests/{{request_id}}/cancel",
    summary="Cancel a request",
    status_code=202,
    response_model=CancelAnswer,
    responses=KEYS | UNKNOWN | FAULTS | {400: {"model": CancelAnswer, "description": "It has ended already"}},
)
async def cancel(request: Request, request_id: str, owner: Owner) -> Any:
    """A run in progress is asked to end; it is billed nothing."""
    entry = await found(request, request_id, owner)
    if entry.ended_at:
        return JSONResponse({"status": "ALREADY_COMPLETED"}, status_code=400, headers=named(entry))
    await watcher_of(request).cancel(entry)
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, status_code=202, headers=named(entry))


async def found(request: Request, request_id: str, owner: str) -> Entry:
    """The request of this owner.

    Raises:
        HTTPException: 404.
    """
    entry = await watcher_of(request).find(request_id, owner)
    if entry is None:
        raise HTTPException(404, f"no request {request_id}")
    return entry


def urls(request: Request, entry: Entry) -> dict[str, str]:
    """Follow-up URLs of a request."""
    here = f"{origin(request)}{APP}/requests/{entry.id}"
    return {"response_url": here, "status_url": f"{here}/status", "cancel_url": f"{here}/cancel"}


def standing(request: Request, entry: Entry, lines: Sequence[LogLine] | None) -> dict[str, Any]:
    """A status with these log lines; clients read `logs` and `queue_position` unasked, so both are always there."""
    told: dict[str, Any] = {
        "status": entry.status,
        "request_id": entry.id,
        **urls(request, entry),
        "queue_position": entry.queue_position if entry.status == "IN_QUEUE" else None,
        "logs": None if lines is None else [line.model_dump() for line in lines],
        "metrics": {"inference_time": entry.seconds} if entry.seconds is not None else {},
    }
    if entry.code is not None and entry.code != 200:
        detail = (entry.answer or {}).get("detail")
        told["error"] = detail if isinstance(detail, str) else "; ".join(str(each["msg"]) for each in detail or [])
        kind = (entry.answer or {}).get("error_type")
        told["error_type"] = kind or (detail[0]["type"] if isinstance(detail, list) and detail else None)
    return told


def named(entry: Entry) -> dict[str, str]:
    """Header with the request's id, without which clients take some errors for a proxy's."""
    return {"x-fal-request-id": entry.id}


async def _events(request: Request, entry: Entry, logs: bool) -> AsyncIterator[str]:
    """Events of a request: each status as it changes, with the log lines that were not sent before."""
    watcher, told, said = watcher_of(request), "", 0

    def news() -> bool:
        return json.dumps(standing(request, entry, None)) != told or (logs and len(entry.logs) > said)

    while True:
        if news():
            lines = entry.logs[said:] if logs else None
            yield f"data: {json.dumps(standing(request, entry, lines))}\n\n"
            told, said = json.dumps(standing(request, entry, None)), said + len(lines or ())
        else:
            yield ": still here\n\n"
        if entry.ended_at:
            return
        await watcher.wait(news, SECONDS_BETWEEN_SIGNS)

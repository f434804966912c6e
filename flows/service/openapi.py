"""Answers of the API in its OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from flows.service.register import LogLine, Status
from schemas.rejections import Detail


class Problem(BaseModel):
    """An error that is not a fault of the request's fields."""

    detail: str
    error_type: str | None = None


class Faults(BaseModel):
    """Faults of the request or of its data, all that were found together."""

    detail: list[Detail]


class Submitted(BaseModel):
    """A request is queued."""

    status: Status
    request_id: str
    gateway_request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    queue_position: int


class StatusAnswer(BaseModel):
    """How far a request is."""

    status: Status
    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    queue_position: int | None
    logs: list[LogLine] | None
    metrics: dict[str, float] = {}
    error: str | None = None
    error_type: str | None = None


class CancelAnswer(BaseModel):
    """What became of the wish to cancel."""

    status: str


def body_of(schema: str) -> dict[str, Any]:
    """The body of a request, in the OpenAPI document."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": True, "content": content}}


Responses = dict[int | str, dict[str, Any]]
FAULTS: Responses = {422: {"model": Faults, "description": "The request is wrong; nothing was started or billed"}}
KEYS: Responses = {401: {"model": Problem, "description": "No API key, or a wrong one"}}
BUSY: Responses = {
    413: {"model": Problem, "description": "Larger than LTX_FLOWS_MAX_BODY_BYTES, or 1 MiB beside data: URIs"},
    415: {"model": Problem, "description": "Its Content-Type is not application/json"},
    429: {"model": Problem, "description": "Too many submissions in a minute"},
    503: {"model": Problem, "description": "The ledger or the store does not answer"},
}
UNKNOWN: Responses = {404: {"model": Problem, "description": "No such request of this key"}}

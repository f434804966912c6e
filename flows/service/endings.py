"""Endings of a request: status code and body, as clients of the hosted endpoints know them.

Source: docs/http-contract.md, section 2.
"""

from typing import Any

from flows.service.prefect_runs import RunState
from schemas.redaction import for_clients

Ending = tuple[int, dict[str, Any]]
FINISHED = ("Completed", "Crashed", "Cancelled")  # either of the latter may come after it was billed
CANCELLED: Ending = 400, {"detail": "the request was cancelled", "error_type": "request_cancelled"}
TOO_LATE: Ending = (
    504,
    {
        "detail": "the request did not start within its X-Fal-Request-Timeout",
        "error_type": "request_timeout",
    },
)


def ending(state: RunState, told: dict[str, Any] | None) -> Ending:
    """Ending of a run that has ended; `told`: the outcome that the run has recorded."""
    if state.name in FINISHED and told and "result" in told:
        return 200, told["result"]
    if state.name == "Rejected" and told and "detail" in told:
        return 422, {"detail": told["detail"]}
    if state.name == "Cancelled":
        return CANCELLED
    said = for_clients(state.message)
    if state.name == "Crashed":
        return 503, {"detail": said or "its worker ended", "error_type": "runner_disconnected"}
    return failed(said or state.name)


def failed(reason: str) -> Ending:
    """Ending of a request that nobody can help except who runs the service."""
    return 500, {"detail": [{"loc": ["body"], "msg": reason, "type": "internal_server_error", "input": None}]}


def not_started(reason: str) -> Ending:
    """Ending of a request for which no run could be made in all the time."""
    return 503, {"detail": reason, "error_type": "runner_scheduling_failure"}

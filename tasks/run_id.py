"""The id under which a run delivers, is billed and records its usage."""

from contextvars import ContextVar

from prefect import runtime

DELIVERED_AS: ContextVar[str | None] = ContextVar("delivered_as", default=None)


def current_run() -> str | None:
    """Prefect's id of this run, or the first one of a run that was cut off; None outside of a run."""
    return DELIVERED_AS.get() or runtime.flow_run.id

"""Patience of Prefect's clients, runs and workers with a server that is away, however long, and whenever it goes.

A plugin of Prefect (the entry point in pyproject.toml): where PREFECT_PLUGINS_ENABLED is set, as it is for workers and
their runs in every kind of pool, Prefect calls it as it is imported.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from prefect.plugins import register_hook

GIVEN_UP = "Service exceeded error threshold."  # what Prefect's loop says as it ends
Loop = Callable[..., Coroutine[Any, Any, None]]
log = logging.getLogger("ltx_flows.patience")


@register_hook
def setup_environment(*, ctx: object) -> None:
    """Patch Prefect; called by Prefect before anything else of it is imported; returns no variables."""
    ask_again_from_the_first()
    go_on_with_loops()


def ask_again_from_the_first() -> None:
    """Let a client ask again when nobody answers, even the first time: a run may begin just then."""
    from prefect.client import base  # noqa: PLC0415  # while Prefect is imported

    always = property(lambda client: True, lambda client, connected: None)
    for client in (base.PrefectHttpxAsyncClient, base.PrefectHttpxSyncClient):
        client._has_connected = always  # type: ignore[assignment]


def go_on_with_loops() -> None:
    """Restart a worker's loops when they give up: a loop that ends kills the runs that it has started."""
    from prefect.utilities import services  # noqa: PLC0415

    services.critical_service_loop = without_end(services.critical_service_loop)  # before a worker imports it


def without_end(loop: Loop) -> Loop:
    """The loop without its limit of failures; any other fault is raised."""

    async def going_on(*arguments: object, **options: object) -> None:
        while True:
            try:
                return await loop(*arguments, **options)
            except RuntimeError as error:
                if str(error) != GIVEN_UP:
                    raise
            log.warning("Prefect's server has not answered for a while; asking it again")

    return going_on

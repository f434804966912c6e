"""Delivery of webhooks: claims in the database, so that each is sent once and none is forgotten."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from flows.service import register, webhooks
from flows.service.register import PENDING, Entry

AT_ONCE = 20
CLAIMED_FOR = timedelta(seconds=60)  # a process that ends meanwhile leaves it to another one
log = logging.getLogger("ltx_flows.service")


class Deliveries:
    """The webhooks that this process sends."""

    def __init__(self) -> None:
        self.going: set[asyncio.Task[None]] = set()

    async def tell_due(self) -> None:
        """Begin to send all webhooks that are due."""
        room = AT_ONCE - len(self.going)
        for entry in await asyncio.to_thread(register.due_webhooks, room) if room else []:
            claimed = datetime.now(UTC) + CLAIMED_FOR
            if await asyncio.to_thread(register.claim_webhook, entry, claimed):
                task = asyncio.create_task(self._tell(entry, claimed))
                self.going.add(task)
                task.add_done_callback(self._told)

    async def all_told(self) -> None:
        """Wait for the webhooks that are being sent."""
        await asyncio.gather(*self.going)

    async def _tell(self, entry: Entry, claimed: datetime) -> None:
        fault = await webhooks.tell(entry)
        entry.webhook_tries += 1
        entry.webhook_state, entry.webhook_due = _standing(entry.webhook_tries, fault)
        if fault:
            log.warning("webhook of request %s, try %d: %s", entry.id, entry.webhook_tries, fault)
        await asyncio.to_thread(register.note_webhook, entry, claimed)  # else it is told again when the claim ends

    def _told(self, task: asyncio.Task[None]) -> None:
        self.going.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a webhook could not be told, it is tried again: %s", type(error).__name__, exc_info=error)


def _standing(tries: int, fault: str | None) -> tuple[str, datetime | None]:
    """State of a webhook after so many tries, and when its next try is due."""
    now = datetime.now(UTC)
    if fault is None:
        return f"delivered {now:%Y-%m-%d %H:%M:%S}", None
    if tries >= len(webhooks.WAITS):
        return f"given up: {fault}", None
    return PENDING, now + timedelta(seconds=webhooks.WAITS[tries])

"""Patience with passing faults: waiting for a place or a server that does not answer for seconds, or a few minutes."""

import logging
import math
import random
import time

from schemas.errors import TransientError
from schemas.settings import settings

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0  # seconds before another try
SECONDS_BETWEEN_WORDS = 15.0
log = logging.getLogger("ltx_flows.run")


class Patience:
    """Retry state of one operation: how long it has been failing, and the pause before the next try."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start the clock anew after a success: a later fault begins to fail then."""
        self.deadline: float | None = None
        self.pause = FIRST_PAUSE
        self.said = -math.inf

    def wait(self, fault: TransientError) -> None:
        """Wait before another try.

        Raises:
            TransientError: the fault itself, when it has lasted for as long as the settings say.
        """
        now = time.monotonic()
        if self.deadline is None:
            self.deadline = now + settings().store_patience_seconds
        if now + self.pause > self.deadline:
            raise fault
        if now - self.said > SECONDS_BETWEEN_WORDS:
            log.warning("%s; trying again for %.0f s", fault, self.deadline - now)
            self.said = now
        time.sleep(self.pause * random.uniform(0.5, 1))  # not all at the same moment
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

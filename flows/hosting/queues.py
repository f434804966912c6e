"""Work queues of the pool: runs that may wait have one of their own, which workers look into last.

A worker that is started for the pool, without naming a queue, reads all of its queues, the lower number first.
"""

from typing import Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkQueueFilter, WorkQueueFilterName

QueuePriority = Literal["normal", "low"]
QUEUES: dict[QueuePriority, str | None] = {
    "normal": None,
    "low": "low",
}  # None: the deployment's own, Prefect's default
LAST = 100


def make_queues(client: SyncPrefectClient, pool: str) -> None:
    """Create the queue of runs that may wait; one that is there stays as it is."""
    for name in filter(None, QUEUES.values()):
        wanted = WorkQueueFilter(name=WorkQueueFilterName(any_=[name]))
        if not client.read_work_queues(work_pool_name=pool, work_queue_filter=wanted):
            about = "Requests with X-Fal-Queue-Priority: low"
            client.create_work_queue(name, description=about, priority=LAST, work_pool_name=pool)

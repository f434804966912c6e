"""Download: a file behind a URL into the store."""

from typing import Any

from prefect import runtime
from prefect.context import TaskRunContext

from schemas.rejections import Loc
from tasks.ledger.outcomes import was_rejected
from tasks.manifests import Downloaded
from tasks.sources.fetch import fetch, name_of, state_of
from tasks.step import Progress, told_step
from tasks.storage.store import key_of


def once_per_run(context: TaskRunContext, arguments: dict[str, Any]) -> str:
    """Cache key: a run fetches a URL once, however often it goes on; another run fetches again, as the bytes may have
    changed. So does a run that was rejected and is tried again: its data may have been mended where they lie.

    For a file of this machine, its size and time show at once whether they have.
    """
    run, url = context.task_run.flow_run_id, arguments["url"]
    again = f"try {context.task_run.flow_run_run_count}/" if was_rejected(str(run)) else ""
    return f"download/v2/{run}/{again}{key_of(url, state_of(url))}"


def named() -> str:
    """Name of the task on the run's page: the file, without the query of its URL, which may be a secret."""
    return f"download {name_of(runtime.task_run.parameters['url'])}"


@told_step(
    "download",
    says=lambda file: f"{file.name}, {file.size:,} bytes",
    task_run_name=named,
    cache_key_fn=once_per_run,
    retries=3,
    retry_delay_seconds=[2, 10, 30],
)
def download(url: str, where: Loc) -> Downloaded:
    """URL -> the file, known by its content."""
    progress = Progress("download", "Bytes downloaded")
    file = fetch(url, where, progress)
    progress(file.size, file.size)
    return Downloaded(**dict(file))

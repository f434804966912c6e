"""Download: a file behind a URL into the store."""

from typing import Any

from prefect import task
from prefect.context import TaskRunContext

from schemas.rejections import Loc
from tasks.manifests import Downloaded
from tasks.sources.fetch import fetch, state_of
from tasks.step import AS_JSON, Progress, note_in_use, worth_retrying
from tasks.storage.store import key_of


def once_per_run(context: TaskRunContext, arguments: dict[str, Any]) -> str:
    """Cache key: a run and its retries fetch a URL once; another run fetches again, as the bytes may have changed.

    For a file of this machine, its size and time show at once whether they have.
    """
    return f"download/v2/{context.task_run.flow_run_id}/{key_of(arguments['url'], state_of(arguments['url']))}"


@task(
    task_run_name="download",
    cache_key_fn=once_per_run,
    persist_result=True,
    result_serializer=AS_JSON,
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=worth_retrying,
)
def download(url: str, where: Loc) -> Downloaded:
    """URL -> the file, known by its content."""
    progress = Progress("download", "Bytes downloaded")
    file = fetch(url, where, progress)
    progress(file.size, file.size)
    note_in_use(file)
    return Downloaded(**dict(file))

"""Download: a file behind a URL into the store."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.errors import Loc
from schemas.media import MediaFile
from tasks.fetching import fetch
from tasks.step import Progress, worth_retrying

__all__ = ["download", "fetch"]


@task(
    task_run_name="download",
    cache_policy=NO_CACHE,  # the bytes behind a URL may change; all later steps go by the content
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=worth_retrying,
)
def download(url: str, where: Loc) -> MediaFile:
    """URL -> the file, known by its content."""
    return fetch(url, where, Progress("download", "Bytes downloaded"))

"""Base models from the Hugging Face Hub: which revision is the newest, and its files into the Hub's own cache.

Files in the cache are not fetched again, interrupted ones go on; the cache is shared with every other program.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, constants, set_client_factory, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import tqdm

from schemas.errors import BaseModelNotHere, BaseModelUnavailable, DownloadInterrupted
from schemas.settings import settings
from tasks.storage.durable import appearing

Shown = Callable[[int, int], None]

SECONDS_BETWEEN_LOOKS = 0.5
NO_ACCESS = (401, 403)
TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # the Hub's library would wait for an answer for ever
ACCESS = (
    "{name} may not be read ({reason}): accept its licence on its page on huggingface.co, then log in with "
    "`hf auth login` or set HF_TOKEN"
)


def _client() -> httpx.Client:
    client = default_client_factory()
    client.timeout = TIMEOUT
    return client


set_client_factory(_client)


def newest_revision(name: str, components: Sequence[str]) -> str:
    """The commit of the Hub's main branch; where the Hub cannot be asked, the revision that is here.

    Raises:
        BaseModelUnavailable: there is no such model, or its licence has not been accepted.
        DownloadInterrupted: the Hub does not answer, and no revision is here.
    """
    try:
        with _explained(name):
            return str(HfApi().model_info(name).sha)
    except DownloadInterrupted:
        try:
            return snapshot(name, components).name
        except BaseModelUnavailable:
            pass
        raise


def snapshot(name: str, components: Sequence[str]) -> Path:
    """The folder of a model that was downloaded before, at the latest of its revisions; nothing is asked of the Hub.

    Raises:
        BaseModelNotHere: it is not here, or not wholly.
        BaseModelUnavailable: it can be nowhere.
    """
    try:
        return Path(
            snapshot_download(
                name, revision=_last_fetched(name), allow_patterns=_files_of(components), local_files_only=True
            )
        )
    except LocalEntryNotFoundError as error:
        raise BaseModelNotHere(f"{name} is not on this machine yet; the first run downloads it") from error
    except HFValidationError as error:
        raise BaseModelUnavailable(f"{name} is neither a folder nor the id of a model on the Hub") from error


def fetch_snapshot(name: str, revision: str, components: Sequence[str], progress: Shown) -> Path:
    """One revision's components, downloaded where missing; `progress` is called with the bytes here, and all bytes.

    Raises:
        BaseModelUnavailable: the Hub refuses.
        DownloadInterrupted: it broke off; what has come stays, and the next try goes on with it.
    """
    counter = _counter()

    def fetch() -> str:
        wanted = _files_of(components)
        return str(snapshot_download(name, revision=revision, allow_patterns=wanted, tqdm_class=counter))

    with _explained(name), ThreadPoolExecutor(1, "hub") as pool:
        fetching = pool.submit(fetch)
        for done, total in _looks(fetching, counter):
            progress(done, total)
        folder = Path(fetching.result())
    with appearing(_note(name)) as part:
        part.write_text(revision)
    return folder


def may_be_read(name: str) -> None:
    """Ask the Hub whether this machine may read a model; nothing of it is fetched.

    Raises:
        BaseModelUnavailable: it may not, or there is no such model.
        DownloadInterrupted: the Hub does not answer.
    """
    with _explained(name):
        HfApi().auth_check(name)


def cache_folder() -> Path:
    """Where models of the Hub are kept."""
    return Path(constants.HF_HUB_CACHE)


def _files_of(components: Sequence[str]) -> list[str]:
    return [f"{component}/*" for component in components]


def _note(name: str) -> Path:
    """File that says which revision was fetched last: the Hub's cache knows only the branches that were asked for."""
    return settings().home_folder / "base" / f"{name.replace('/', '--')}.revision"


def _last_fetched(name: str) -> str | None:
    try:
        return _note(name).read_text()
    except FileNotFoundError:  # main, which other programs may have fetched
        return None


def _looks(fetching: "Future[str]", counter: Any) -> Iterator[tuple[int, int]]:
    """Progress of a download, (bytes here, all bytes), now and then until it has ended."""
    while not fetching.done():
        if counter.total_bytes:
            yield min(counter.done_bytes, counter.total_bytes), counter.total_bytes
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if counter.total_bytes:
        yield counter.total_bytes, counter.total_bytes


def _counter() -> type[tqdm]:
    """A progress bar that draws nothing and counts the bytes of all files together."""

    class Counter(tqdm):
        done_bytes = total_bytes = 0

        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **{**more, "disable": True})  # type: ignore[no-untyped-call]
            self.counts = "Reconstructing" in str(more.get("desc", ""))  # the other bar counts what came compressed
            self.whole = 0

        def update(self, n: float | None = 1) -> None:
            if self.counts:
                self.whole += int(n or 0)
                Counter.done_bytes, Counter.total_bytes = self.whole, int(self.total or 0)

    return Counter


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        if isinstance(error, GatedRepoError) or _status(error) in NO_ACCESS:  # a private one seems not to be there
            raise BaseModelUnavailable(ACCESS.format(name=name, reason=_first_line(error))) from error
        advice = f"{name} is neither a folder nor the id of a model on the Hub ({_first_line(error)})"
        raise BaseModelUnavailable(advice) from error
    except HfHubHTTPError as error:
        if _status(error) in NO_ACCESS:
            raise BaseModelUnavailable(ACCESS.format(name=name, reason=_first_line(error))) from error
        raise DownloadInterrupted(f"{name}: the Hub answered {_status(error)}; run again") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError, TimeoutError) as error:
        raise DownloadInterrupted(f"{name}: the Hub does not answer ({_first_line(error)}); run again") from error


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0].split("?", 1)[0]
    return text[:160] or type(error).__name__

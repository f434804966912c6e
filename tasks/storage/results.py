"""Prefect's step results in our store: a run that goes on, here or on another machine, finds the steps already done."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore

from tasks.storage.store import store

RESULTS = "results"


class StoreResults(WritableFileSystem):
    """File system of Prefect's results in the store: written whole or not at all, and there after a power cut."""

    _block_type_name = "ltx-flows store"
    _block_type_slug = "ltx-flows-store"

    def _resolve_path(self, path: str) -> None:
        """None: result keys are addresses as they are, without a folder below which Prefect should look."""

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]  # Prefect takes both
        """The bytes of a result.

        Raises:
            FileNotFoundError: there are none.
        """
        content = store().place.read(f"{RESULTS}/{path}")
        if content is None:
            raise FileNotFoundError(path)
        return content

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        """Write the bytes of a result."""
        store().place.write(content, f"{RESULTS}/{path}")


@contextmanager
def results_in_store() -> Iterator[None]:
    """Keep and find the results of a flow run's steps in the store.

    Prefect itself takes a place from a block that is saved on its server, or a folder of this machine; set here, no
    server has to be prepared, and none can lead a run elsewhere.
    """
    context = FlowRunContext.get()
    assert context is not None
    with context.model_copy(update={"result_store": ResultStore(result_storage=StoreResults())}):
        yield

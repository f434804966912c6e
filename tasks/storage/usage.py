"""Usage notes: the artifacts that a run uses, noted from its start on, so that pruning on any machine spares them."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.media import Frozen
from tasks.storage.store import media_address, store

RUNS = "runs"


class RunNote(Frozen):
    """The addresses that a run has used."""

    addresses: tuple[str, ...] = ()
    began: float = 0.0  # seconds since 1970
    ended: bool = False


def record_usage(run_id: str, addresses: Iterable[str], *, ended: bool = False) -> None:
    """Add addresses to the note of a run, and renew its age: the note is needed for as long as runs are."""
    address = f"{RUNS}/{run_id}.json"
    before = _read(address) or RunNote(began=time.time())
    known = tuple(sorted({*before.addresses, *addresses}))
    after = before.model_copy(update={"addresses": known, "ended": ended})
    store().write_text(after.model_dump_json(), address)


def addresses_in(*manifests: BaseModel) -> Iterator[str]:
    """All store addresses that manifests name: an artifact's address, the content of media files and fitted clips."""
    for manifest in manifests:
        yield from addresses_of(manifest.model_dump())


def addresses_of(value: Any) -> Iterator[str]:  # any JSON
    """All store addresses in plain values."""
    if isinstance(value, dict):
        if "address" in value:
            yield value["address"]
        elif content := value.get("source") or value.get("sha256"):
            yield media_address(content)
        for item in value.values():
            yield from addresses_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from addresses_of(item)


def _read(address: str) -> RunNote | None:
    text = store().read_text(address)
    try:
        return RunNote.model_validate_json(text) if text else None
    except ValidationError:  # damaged: what comes is noted anew
        return None

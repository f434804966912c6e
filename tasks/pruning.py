"""How much the store holds, and what may go: what no recent run needs, and what killed runs have left."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from schemas.errors import StoreDamaged
from schemas.media import Frozen
from schemas.settings import settings
from tasks.leftovers import remove_leftovers
from tasks.place import Place, Stored
from tasks.store import media_address, store

HOUR, DAY = 3600.0, 86400.0
CONTENT = ("blobs", "files")  # everything else in the store is notes about these
RUNS = "runs"


class RunNote(Frozen):
    """What a run has used."""

    addresses: tuple[str, ...]


class Pruned(NamedTuple):
    """What was removed."""

    files: int
    size: int


def note_run(run_id: str, *manifests: BaseModel | tuple[BaseModel, ...]) -> None:
    """Remember what a run has used, so that pruning spares it."""
    plain = [_plain(manifest) for manifest in manifests]
    addresses = tuple(sorted(set(_addresses(plain))))
    store().write_text(RunNote(addresses=addresses).model_dump_json(), f"{RUNS}/{run_id}.json")


def usage() -> dict[str, tuple[int, int]]:
    """(files, bytes) by kind."""
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in store().place.files():
        files, size = sums[file.kind]
        sums[file.kind] = files + 1, size + file.size
    return dict(sorted(sums.items()))


def prune(older_than: float, keep_runs: float, most_bytes: int | None = None) -> Pruned:
    """Remove what is older and not needed by a run that recent; then, oldest first, until `most_bytes` are left.

    Args:
        older_than: seconds; younger files may belong to a run that is under way.
        keep_runs: seconds; what runs this recent have used stays.
        most_bytes: of the whole store; what is needed stays even so.
    """
    files = list(store().place.files())
    needed = _needed(files, keep_runs)
    content = sorted((f for f in files if f.kind in CONTENT and f.address not in needed), key=lambda f: -f.age)
    going = [f for f in content if f.age > older_than]
    going += [f for f in files if f.address.endswith(".part") and f.age > DAY]
    going += [f for f in files if f.kind == RUNS and f.age > max(keep_runs, older_than)]
    left = sum(f.size for f in files) - sum(f.size for f in going)
    for file in (f for f in content if f not in going and f.age > HOUR):
        if most_bytes is None or left <= most_bytes:
            break
        going.append(file)
        left -= file.size
    gone = {f.address for f in going}
    going += [f for f in files if f.address not in gone and f.age > older_than and _is_orphan(f, gone)]
    for file in dict.fromkeys(going):
        store().remove(file.address)
    for place in (store().place, Place(settings().outputs_url)):
        place.end_uploads(older_than=DAY)
    left_files, left_size = remove_leftovers(older_than, keep_runs)
    return Pruned(len(set(going)) + left_files, sum(f.size for f in set(going)) + left_size)


def _needed(files: list[Stored], keep_runs: float) -> set[str]:
    needed: set[str] = set()
    for file in files:
        if file.kind == RUNS and file.age <= keep_runs and (note := store().read_text(file.address)):
            needed.update(_noted(note, file.address))
    return needed


def _noted(note: str, address: str) -> tuple[str, ...]:
    try:
        return RunNote.model_validate_json(note).addresses
    except ValidationError as error:  # pruning without it would take what that run needs
        raise StoreDamaged(f"{store().place.url}/{address} cannot be read; remove it, then prune again") from error


def _is_orphan(file: Stored, gone: set[str]) -> bool:
    """A note or manifest whose content has gone, now or before."""
    if file.kind in (*CONTENT, RUNS) or not file.address.endswith((".json", ".manifest")):
        return False
    try:
        named = set(_addresses(json.loads(store().read_text(file.address) or "{}")))
    except ValueError:
        return True
    return not named or any(address in gone or store().size(address) is None for address in named)


def _plain(manifest: Any) -> Any:
    return manifest.model_dump() if isinstance(manifest, BaseModel) else [_plain(item) for item in manifest]


def _addresses(value: Any) -> Iterator[str]:
    """Addresses in a manifest: artifacts say theirs, media files and fitted clips name a content."""
    if isinstance(value, dict):
        if "address" in value:
            yield value["address"]
        elif content := value.get("source") or value.get("sha256"):
            yield media_address(content)
        for item in value.values():
            yield from _addresses(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _addresses(item)

"""Retention: how much the store holds, and which files may go: not needed by recent runs, or left by killed ones."""

import json
import time
from collections import defaultdict
from typing import NamedTuple

from pydantic import ValidationError

from schemas.errors import StoreDamaged
from schemas.settings import settings
from tasks.sources.upload_parts import remove_abandoned
from tasks.storage.folder import Place, Stored
from tasks.storage.leftovers import remove_leftovers
from tasks.storage.store import store
from tasks.storage.usage import RUNS, RunNote, addresses_of

HOUR, DAY = 3600.0, 86400.0
CONTENT = ("blobs", "files")  # everything else in the store is notes about these
CHECKPOINTS = "checkpoints"
FORGOTTEN = (RUNS, "results", "pins")  # of runs: kept for as long as runs are


class Pruned(NamedTuple):
    """The files and bytes that were removed."""

    files: int
    size: int


def usage() -> dict[str, tuple[int, int]]:
    """(files, bytes) of the store by kind."""
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in store().place.files():
        files, size = sums[file.kind]
        sums[file.kind] = files + 1, size + file.size
    return dict(sorted(sums.items()))


def prune(older_than: float, keep_runs: float, most_bytes: int | None = None) -> Pruned:
    """Remove files that are older and not needed by a run that recent; then, oldest first, until `most_bytes` are left.

    Files that a live run uses or has made stay in any case, whatever is asked.

    Args:
        older_than: seconds; younger files may belong to a run that is under way.
        keep_runs: seconds; what runs this recent have used stays.
        most_bytes: of the whole store; what is needed stays even so.
    """
    files = list(store().place.files())
    needed = _needed(files, keep_runs)
    going = _going(files, needed, max(keep_runs, older_than), older_than, most_bytes)
    begun_since = _needed(list(store().place.files(RUNS)), keep_runs)
    going = [file for file in going if not begun_since.includes(file)]
    for file in going:
        store().remove(file.address)
    for place in (store().place, Place(settings().outputs_url)):
        place.end_uploads(older_than=DAY)
    going += remove_abandoned()
    left_files, left_size = remove_leftovers(older_than, keep_runs)
    return Pruned(len(going) + left_files, sum(file.size for file in going) + left_size)


class _Needed(NamedTuple):
    """Addresses that runs need."""

    addresses: set[str]
    made_in: float  # seconds: what is younger may have been made by a run that is going

    def includes(self, file: Stored) -> bool:
        return file.address in self.addresses or (file.kind not in FORGOTTEN and file.age <= self.made_in)


def _going(
    files: list[Stored], needed: _Needed, runs_older_than: float, older_than: float, most_bytes: int | None
) -> list[Stored]:
    content = sorted((f for f in files if f.kind in CONTENT and not needed.includes(f)), key=lambda f: -f.age)
    going = [f for f in content if f.age > older_than]
    going += [f for f in files if f.address.endswith(".part") and f.age > DAY]
    going += [f for f in files if f.kind in FORGOTTEN and f.age > runs_older_than]
    going += [f for f in files if f.kind == CHECKPOINTS and f.age > max(older_than, DAY)]
    left = sum(f.size for f in files) - sum(f.size for f in going)
    for file in (f for f in content if f not in going and f.age > HOUR):
        if most_bytes is None or left <= most_bytes:
            break
        going.append(file)
        left -= file.size
    gone = {f.address for f in going}
    going += [f for f in files if f.address not in gone and f.age > older_than and _is_orphan(f, gone)]
    return list(dict.fromkeys(going))


def _needed(files: list[Stored], keep_runs: float) -> _Needed:
    addresses: set[str] = set()
    made_in = 0.0
    for file in files:
        if file.kind == RUNS and file.age <= keep_runs and (text := store().read_text(file.address)):
            note = _noted(text, file.address)
            addresses.update(note.addresses)
            if not note.ended and file.age < DAY:
                made_in = max(made_in, time.time() - note.began)
    return _Needed(addresses, made_in)


def _noted(text: str, address: str) -> RunNote:
    try:
        return RunNote.model_validate_json(text)
    except ValidationError as error:  # pruning without it would take what that run needs
        raise StoreDamaged(f"{store().place.url}/{address} cannot be read; remove it, then prune again") from error


def _is_orphan(file: Stored, gone: set[str]) -> bool:
    """Whether a file is a note or manifest whose content has gone, now or before."""
    if file.kind in (*CONTENT, *FORGOTTEN) or not file.address.endswith((".json", ".manifest")):
        return False
    try:
        named = set(addresses_of(json.loads(store().read_text(file.address) or "{}")))
    except ValueError:
        return True
    return not named or any(address in gone or store().size(address) is None for address in named)

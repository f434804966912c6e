"""Memo: small results of looks into files, kept in the store, so that one clip more costs one look more."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from schemas.errors import StoreDamaged
from schemas.media import Frozen
from tasks.storage.store import store

Answer = TypeVar("Answer", bound=Frozen)


def remembered(address: str, kind: type[Answer], make: Callable[[], Answer]) -> Answer:
    """The answer kept under an address that names all its inputs; made and kept where there is none."""
    if (kept := _kept(address, kind)) is not None:
        return kept
    answer = make()
    store().publish_text(answer.model_dump_json(), address)
    return answer


def _kept(address: str, kind: type[Answer]) -> Answer | None:
    artifact = store().find(address)
    if artifact is None:
        return None
    try:
        with store().local(artifact) as path:
            return kind.model_validate_json(path.read_bytes())
    except (ValidationError, StoreDamaged):  # of another version, or damaged: made anew
        return None

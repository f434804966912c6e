"""Sightings of running trainings: progress, loss curve and last preview, from the artifacts of their Prefect runs."""

import base64
import binascii
import re
import time
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.sorting import ArtifactSort

PICTURES = {"loss-curve": "image/svg+xml", "previews": "image/png"}  # by the artifact's key
SECONDS_KEPT = 2.0  # however many pages look on
MOST_KEPT = 100
LONGEST_WORDS = 200
_PICTURE = re.compile(r"!\[[^\]]*\]\(data:(image/[a-z+]+);base64,([A-Za-z0-9+/=]+)\)")


class Picture(NamedTuple):
    """A picture that a run shows of itself, and the words beside it."""

    kind: str
    content: bytes
    words: str

    @property
    def mark(self) -> str:
        """The same for the same picture."""
        return sha256(self.content).hexdigest()[:16]


class Sighting(NamedTuple):
    """A run as it shows itself: percent of the step that it is at, that step in words, and pictures by key."""

    percent: float | None
    doing: str
    pictures: dict[str, Picture]


class Sightings:
    """The latest sighting of each run, so that many who look on ask Prefect once."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Sighting]] = {}

    async def of(self, client: PrefectClient, run_id: str) -> Sighting:
        """What a run shows now, or did a moment ago."""
        when, known = self._kept.get(run_id, (0.0, None))
        if known is None or time.monotonic() - when > SECONDS_KEPT:
            known = await _look(client, UUID(run_id))
            self._kept.pop(run_id, None)
            self._kept[run_id] = time.monotonic(), known
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return known


async def _look(client: PrefectClient, run_id: UUID) -> Sighting:
    found = await _latest(client, run_id, type=ArtifactFilterType(any_=["progress"]))
    percent = float(found.data) if found and isinstance(found.data, int | float) else None
    pictures = {}
    for key, kind in PICTURES.items():
        card = await _latest(client, run_id, key=ArtifactFilterKey(any_=[key]))
        if picture := picture_in(str(card.data) if card else "", kind):
            pictures[key] = picture
    return Sighting(percent, (found.description or "") if found else "", pictures)


async def _latest(client: PrefectClient, run_id: UUID, **which: Any) -> Any:
    """The artifact of a run that was changed last; pages of Prefect have all of them."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), **which)
    found = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return found[0] if found else None


def picture_in(markdown: str, kind: str) -> Picture | None:
    """The one picture of this kind in an artifact's text."""
    found = _PICTURE.search(markdown)
    if found is None or found[1] != kind:
        return None
    try:
        content = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    lines = [line.strip() for line in _PICTURE.sub("", markdown).splitlines()]
    return Picture(kind, content, next(filter(None, lines), "")[:LONGEST_WORDS])

"""A running training as it goes: percent, the step that it is at, its loss curve and its last preview."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from flows.service.auth import Owner
from flows.service.pages import outcome
from flows.service.past import standing
from flows.service.register import Entry
from flows.service.routes.queue import found, watcher_of
from flows.service.sightings import PICTURES, Picture, Sighting
from flows.service.watcher import MAY_PASS

CURVE = "loss-curve"
NOTHING = Sighting(None, "", {})
router = APIRouter(include_in_schema=False)


@router.get("/history/{request_id}/live")
async def live(request: Request, request_id: str, owner: Owner) -> JSONResponse:
    """What the pages ask for every few seconds; pictures are named, and change their address when they change."""
    entry = await found(request, request_id, owner)
    seen = await _sighting(request, entry) if entry.started_at and not entry.ended_at else NOTHING
    told: dict[str, Any] = {
        "standing": standing(entry),
        "being_cancelled": entry.cancelled_at is not None,
        "queue_position": entry.queue_position if entry.status == "IN_QUEUE" else None,
        "percent": seen.percent,
        "doing": seen.doing,
        "pictures": {key: _told(entry, key, picture) for key, picture in seen.pictures.items()},
    }
    return JSONResponse(told, headers={"Cache-Control": "no-store"})


@router.get("/history/{request_id}/pictures/{key}")
async def picture(request: Request, request_id: str, key: str, owner: Owner) -> Response:
    """A picture out of the run's artifacts, which runs no script even where it is opened by itself."""
    entry = await found(request, request_id, owner)
    seen = await _sighting(request, entry)
    if key not in PICTURES or key not in seen.pictures:
        raise HTTPException(404, "this run shows no such picture")
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    shown = seen.pictures[key]
    return Response(shown.content, media_type=shown.kind, headers=headers | {"Cache-Control": "private, max-age=3600"})


async def curve_of(request: Request, entry: Entry) -> str | None:
    """Where the loss curve of a request is: among its files; of an older run, or of one that goes, with Prefect."""
    if kept := outcome.curve(entry):
        return kept
    shown = (await _sighting(request, entry)).pictures.get(CURVE)
    return _told(entry, CURVE, shown)["url"] if shown else None


async def _sighting(request: Request, entry: Entry) -> Sighting:
    """What the run shows; nothing while Prefect does not answer, as a training goes on without it."""
    if entry.run_id is None:
        return NOTHING
    try:
        return await watcher_of(request).runs.sighting(entry.run_id)
    except MAY_PASS:
        return NOTHING


def _told(entry: Entry, key: str, shown: Picture) -> dict[str, str]:
    return {"url": f"/history/{entry.id}/pictures/{key}?{shown.mark}", "words": shown.words}

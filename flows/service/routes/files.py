"""Finished files, by signed links."""

import mimetypes
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, RedirectResponse, Response

from flows.service.links import valid
from flows.service.openapi import FAULTS, Problem, Responses
from schemas.settings import settings
from tasks.storage.folder import Place

router = APIRouter(tags=["files"])
SERVED: Responses = {
    200: {"content": {"application/octet-stream": {}}},
    206: {"description": "A part of it"},
    307: {"description": "It is on S3"},
    403: {"model": Problem, "description": "Not our link, or an old one"},
    404: {"model": Problem, "description": "The file is gone"},
    416: {"description": "No such part"},
}


@router.get(
    "/files/{run_id}/{name}",
    summary="A finished file",
    openapi_extra={"security": []},  # the link is the key
    response_class=Response,
    responses=SERVED | FAULTS,
)
def finished(run_id: str, name: str, expires: Annotated[int, Query()], signature: Annotated[str, Query()]) -> Response:
    """By the link that a result holds; parts of it, too, so that players can seek."""
    if PurePosixPath(name).name != name or not valid(run_id, name, expires, signature):
        raise HTTPException(403, "this link is not ours, or it has expired; ask for the result again")
    place = Place(settings().outputs_url)
    address = f"{run_id}/{name}"
    if place.size(address) is None:
        raise HTTPException(404, "this file is gone")
    if not place.is_local:
        return RedirectResponse(place.link(address, settings().link_seconds))
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    shown = kind.startswith(("video/", "audio/", "image/")) or name.endswith((".json", ".html"))
    return FileResponse(
        place.path(address),
        media_type=kind,
        filename=name,
        content_disposition_type="inline" if shown else "attachment",
        headers={"Content-Security-Policy": "sandbox", "Cache-Control": "private"},
    )

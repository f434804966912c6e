"""Files in and out: finished ones by signed links, data sets and clips of clients that have no bucket of their own."""

import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response

from flows.service.answers import FAULTS, KEYS, Problem, Responses
from flows.service.keys import Owner
from flows.service.links import valid
from schemas.settings import settings
from tasks.keeping import keep
from tasks.place import Place
from tasks.store import temporary_folder
from tasks.uploaded import uploaded_url

router = APIRouter(tags=["files"])
REFUSED: Responses = KEYS | {413: {"model": Problem, "description": "Larger than LTX_FLOWS_MAX_DOWNLOAD_BYTES"}}
SERVED: Responses = {
    200: {"content": {"application/octet-stream": {}}},
    206: {"description": "A part of it"},
    307: {"description": "It is on S3"},
    403: {"model": Problem, "description": "Not our link, or an old one"},
    404: {"model": Problem, "description": "The file is gone"},
    416: {"description": "No such part"},
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
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


@router.put(
    "/uploads/{name}",
    summary="Upload a data set or a clip",
    openapi_extra=BODY,
    responses=REFUSED,
)
async def upload(name: str, request: Request, owner: Owner) -> dict[str, str]:
    """The body is the file; the answer's `url` is what to write into a request."""
    return {"url": await received(request.stream(), name)}


@router.post("/storage/auth/token", summary="Upload token of fal's clients", responses=KEYS)
@router.post("/storage/upload/token", include_in_schema=False)
def token(request: Request, owner: Owner) -> dict[str, Any]:
    """fal's clients ask for a token before they upload; ours is the key that they came with."""
    kind, _, key = request.headers.get("authorization", "Key none").partition(" ")
    return {
        "token": key,
        "token_type": kind,
        "base_url": f"{str(request.base_url).rstrip('/')}",
        "expires_at": "2999-01-01T00:00:00Z",
    }


@router.post(
    "/files/upload",
    summary="Upload as fal's clients do",
    openapi_extra=BODY,
    responses=REFUSED,
)
async def upload_as_fal(request: Request, owner: Owner) -> dict[str, str]:
    """The body is the file, its name is in `X-Fal-File-Name`."""
    return {"access_url": await received(request.stream(), request.headers.get("x-fal-file-name", "file"))}


async def received(chunks: AsyncIterator[bytes], name: str) -> str:
    """Keep what comes in the store, a chunk at a time, and say where it is.

    Raises:
        HTTPException: 413, it is larger than downloads may be.
    """
    with temporary_folder() as folder:
        path = Path(folder) / "upload"
        size = 0
        with path.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > settings().max_download_bytes:
                    raise HTTPException(413, f"more than {settings().max_download_bytes} bytes are not allowed")
                file.write(chunk)
        return uploaded_url(await run_in_threadpool(keep, path, PurePosixPath(name).name or "file"))

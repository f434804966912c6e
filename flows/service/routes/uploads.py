"""Uploads: data sets and clips of clients that have no bucket of their own, as each client sends a file.

fal-client writes with its key; @fal-ai/client asks for a signed link and writes there without one. Large files come in
parts: multipart.py. Source: docs/http-contract.md, section 4, and what both clients were seen to send.
"""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from flows.service import quota
from flows.service import upload_register as addresses
from flows.service.auth import Owner
from flows.service.guard import only_json
from flows.service.links import origin, upload_link, valid_upload
from flows.service.openapi import BUSY, FAULTS, KEYS, Problem, Responses, body_of
from flows.service.quota import Room
from flows.service.upload_register import Upload, plain_name
from schemas.media import MediaFile
from schemas.rejections import Detail, RequestRejected
from tasks.sources.upload_url import uploaded_url
from tasks.storage.store import keep, temporary_folder

router = APIRouter(tags=["uploads"])
Body = TypeVar("Body", bound=BaseModel)
TAKEN: Responses = FAULTS | {
    413: {
        "model": Problem,
        "description": "More than LTX_FLOWS_MAX_DOWNLOAD_BYTES or LTX_FLOWS_UPLOAD_QUOTA_BYTES allow",
    },
    503: BUSY[503],
}
TOLD: Responses = FAULTS | {413: BUSY[413], 415: BUSY[415], 503: BUSY[503]}  # of a body of JSON
SIGNED: Responses = {
    403: {"model": Problem, "description": "Not our link, or an old one"},
    404: {"model": Problem, "description": "No such upload any more"},
}
BINARY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
OPEN: dict[str, Any] = {"security": []}  # the link is the key


class NewFile(BaseModel):
    """What @fal-ai/client says of a file before it sends it."""

    file_name: str = "file"
    content_type: str = "application/octet-stream"


async def signed(
    upload_id: str, name: str, expires: Annotated[int, Query()], signature: Annotated[str, Query()]
) -> Upload:
    """The upload of a signed link.

    Raises:
        HTTPException: 403, 404.
    """
    if not valid_upload(upload_id, name, expires, signature):
        raise HTTPException(403, "this link is not ours, or it has expired; begin the upload again")
    upload = await run_in_threadpool(addresses.find, upload_id)
    if upload is None:
        raise HTTPException(404, "this upload was not completed in time; begin it again")
    return upload


Signed = Annotated[Upload, Depends(signed)]


@router.put(
    "/uploads/{name}",
    summary="Upload a data set or a clip",
    openapi_extra=BINARY,
    responses=TAKEN | KEYS,
)
async def upload(name: str, request: Request, owner: Owner) -> dict[str, str]:
    """The body is the file; the answer's `url` is what to write into a request."""
    return {"url": uploaded_url(await received(request, owner, plain_name(name)))}


@router.post("/storage/auth/token", summary="Upload token of fal's clients", responses=KEYS)
@router.post("/storage/upload/token", include_in_schema=False)
def token(request: Request, owner: Owner) -> dict[str, Any]:
    """fal's clients ask for a token before they upload; ours is the key that they came with."""
    kind, _, key = request.headers.get("authorization", "Key none").partition(" ")
    return {"token": key, "token_type": kind, "base_url": origin(request), "expires_at": "2999-01-01T00:00:00+00:00"}


@router.post(
    "/files/upload",
    summary="Upload as fal's clients do",
    openapi_extra=BINARY,
    responses=TAKEN | KEYS,
)
async def upload_as_fal(request: Request, owner: Owner) -> dict[str, str]:
    """The body is the file, its name is in `X-Fal-File-Name`."""
    name = plain_name(request.headers.get("x-fal-file-name", "file"))
    return {"access_url": uploaded_url(await received(request, owner, name))}


@router.post(
    "/storage/upload/initiate",
    summary="A signed link to upload to",
    openapi_extra=body_of("NewFile"),
    responses=TOLD | KEYS,
)
async def initiate(request: Request, owner: Owner) -> dict[str, str]:
    """The file goes to `upload_url`, without a key; `file_url` is what to write into a request."""
    file = await told(request, NewFile)
    return begun(request, await run_in_threadpool(addresses.announce, owner, file.file_name))


@router.put(
    "/uploads/{upload_id}/{name}",
    summary="Upload to a signed link",
    openapi_extra=BINARY | OPEN,
    responses=TAKEN | SIGNED,
)
async def upload_signed(request: Request, upload: Signed) -> dict[str, str]:
    """The body is the file; sent again, the last one counts."""
    file = await received(request, upload.owner, upload.name)
    await run_in_threadpool(addresses.finish, upload.id, file.sha256)
    return {"url": f"{origin(request)}{upload.path}"}


def begun(request: Request, upload: Upload) -> dict[str, str]:
    """Answer to @fal-ai/client at the beginning of an upload."""
    here = origin(request)
    return {"upload_url": upload_link(here, upload), "file_url": f"{here}{upload.path}"}


async def received(request: Request, owner: str, name: str) -> MediaFile:
    """Store a body as a file of its owner.

    Raises:
        HTTPException: 413, it is larger than downloads may be, or than what the owner may still upload.
        RequestRejected: it is empty.
    """
    room = await run_in_threadpool(quota.room_for_file, owner, said_size(request))
    with temporary_folder() as folder:
        await write(request, folder / "upload", room)
        file = await run_in_threadpool(keep, folder / "upload", name)
    await run_in_threadpool(quota.own, owner, file)
    return file


def said_size(request: Request) -> int | None:
    """Size of a body as announced by the client, if it does so."""
    said = request.headers.get("content-length", "")
    return int(said) if re.fullmatch("[0-9]{1,18}", said) else None


async def write(request: Request, path: Path, room: Room) -> None:
    """Write a body to a file as it comes, as long as there is room.

    Raises:
        HTTPException: 413, there is more, or will be.
        RequestRejected: nothing has come.
    """
    room.check(said_size(request) or 0)
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            room.check(size)
            file.write(chunk)
    if not size:
        raise RequestRejected([Detail(loc=("body",), msg="the upload is empty", type="file_too_small")])


async def told(request: Request, model: type[Body]) -> Body:
    """A parsed JSON body; read here, so that nothing is parsed for clients without a key.

    Raises:
        RequestRejected: with every fault of the body.
    """
    only_json(request)
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        details = [Detail(loc=("body", *fault["loc"]), msg=fault["msg"], type=fault["type"]) for fault in faults]
        raise RequestRejected(details) from error

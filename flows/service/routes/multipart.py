"""Large uploads in parts: begun, sent in any order, completed, as each of fal's clients does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from flows.service import owned, quota
from flows.service import upload_register as addresses
from flows.service.auth import Owner
from flows.service.links import origin
from flows.service.openapi import BUSY, KEYS, Problem, Responses, body_of
from flows.service.quota import Room
from flows.service.routes.uploads import (
    BINARY,
    OPEN,
    SIGNED,
    TAKEN,
    TOLD,
    NewFile,
    Signed,
    begun,
    said_size,
    told,
    write,
)
from flows.service.upload_register import Upload
from schemas.errors import store_error
from schemas.rejections import Detail, RequestRejected
from schemas.settings import settings
from tasks.sources import upload_parts as parts
from tasks.storage.store import temporary_folder

router = APIRouter(tags=["uploads"])
OWNED: Responses = {404: {"model": Problem, "description": "No such upload of this key, or none in parts"}}
SHOWN = 10  # missing parts


class SentPart(BaseModel):
    """A part, by what was answered when it came."""

    number: int = Field(alias="partNumber", ge=1, le=parts.MOST_PARTS)
    etag: str = Field(max_length=256)


class SentParts(BaseModel):
    """All parts of an upload, in any order."""

    parts: list[SentPart] = Field(min_length=1, max_length=parts.MOST_PARTS)


async def own_upload(upload_id: str, name: str, again: str, owner: Owner) -> Upload:
    """The upload of this owner; fal-client names the upload twice.

    Raises:
        HTTPException: 404.
    """
    asked = upload_id == again and addresses.is_id(upload_id)
    upload = await run_in_threadpool(addresses.find, upload_id) if asked else None
    if upload is None or upload.owner != owner:
        raise HTTPException(404, "no such upload")
    return upload


Owned = Annotated[Upload, Depends(own_upload)]
Number = Annotated[int, InPath(ge=1, le=parts.MOST_PARTS)]


@router.post("/files/upload/multipart", summary="Begin an upload in parts", responses=KEYS | {503: BUSY[503]})
async def begin_as_fal(request: Request, owner: Owner) -> dict[str, str]:
    """As fal-client does: parts go below `access_url`, which is what to write into a request."""
    upload = await run_in_threadpool(_begin, owner, request.headers.get("x-fal-file-name", "file"))
    return {"access_url": f"{origin(request)}{upload.path}", "uploadId": upload.id}


@router.put(
    "/uploads/{upload_id}/{name}/multipart/{again}/{number}",
    summary="Upload a part",
    openapi_extra=BINARY,
    responses=TAKEN | KEYS | OWNED,
)
async def part_as_fal(request: Request, upload: Owned, number: Number) -> JSONResponse:
    """A part that is sent again takes the place of the earlier one."""
    return await _part(upload, number, request)


@router.post(
    "/uploads/{upload_id}/{name}/multipart/{again}/complete",
    summary="Complete an upload in parts",
    openapi_extra=body_of("SentParts"),
    responses=TOLD | KEYS | OWNED,
)
async def complete_as_fal(request: Request, upload: Owned) -> dict[str, str]:
    """Lists all parts; of an upload that is complete, it may be asked again."""
    return await _complete(upload, request)


@router.post(
    "/storage/upload/initiate-multipart",
    summary="A signed link to upload parts to",
    openapi_extra=body_of("NewFile"),
    responses=TOLD | KEYS,
)
async def initiate(request: Request, owner: Owner) -> dict[str, str]:
    """As @fal-ai/client does: parts go below the path of `upload_url`, with its query."""
    file = await told(request, NewFile)
    return begun(request, await run_in_threadpool(_begin, owner, file.file_name))


@router.put(
    "/uploads/{upload_id}/{name}/{number}",
    summary="Upload a part to a signed link",
    openapi_extra=BINARY | OPEN,
    responses=TAKEN | SIGNED,
)
async def part_signed(request: Request, upload: Signed, number: Number) -> JSONResponse:
    """A part that is sent again takes the place of the earlier one."""
    return await _part(upload, number, request)


@router.post(
    "/uploads/{upload_id}/{name}/complete",
    summary="Complete an upload to a signed link",
    openapi_extra=body_of("SentParts") | OPEN,
    responses=TOLD | SIGNED,
)
async def complete_signed(request: Request, upload: Signed) -> dict[str, str]:
    """Lists all parts; of an upload that is complete, it may be asked again."""
    return await _complete(upload, request)


def _begin(owner: str, name: str) -> Upload:
    addresses.forget_abandoned()
    upload = addresses.announce(owner, name)
    parts.begin(upload.id)
    return upload


async def _part(upload: Upload, number: int, request: Request) -> JSONResponse:
    with _expected(), temporary_folder() as folder:
        room = await run_in_threadpool(_room, upload, number, said_size(request))
        await write(request, folder / "part", room)
        etag = await run_in_threadpool(_keep_part, upload, number, folder / "part")
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"ETag": f'"{etag}"'})


def _room(upload: Upload, number: int, said: int | None) -> Room:
    parts.check_begun(upload.id)
    return quota.room_for_part(upload, number, said)


def _keep_part(upload: Upload, number: int, path: Path) -> str:
    etag = parts.add(path, upload.id, number)
    quota.check_part(upload, number)
    return etag


async def _complete(upload: Upload, request: Request) -> dict[str, str]:
    sent = await told(request, SentParts)
    await run_in_threadpool(_join, upload, {part.number: part.etag.strip('"') for part in sent.parts})
    return {"url": f"{origin(request)}{upload.path}"}


def _join(upload: Upload, etags: dict[int, str]) -> None:
    """Join the parts. Clients that gave up waiting ask again, maybe elsewhere: a complete upload is left as it is."""
    with _expected():
        try:
            _join_alone(upload, etags)
        except (FileNotFoundError, RequestRejected):
            known = addresses.find(upload.id)
            if known is None or known.sha256 is None:
                raise


def _join_alone(upload: Upload, etags: dict[int, str]) -> None:
    with parts.alone(upload.id):
        if missing := parts.missing(upload.id, etags):
            shown = ", ".join(map(str, missing[:SHOWN])) + (", ..." if missing[SHOWN:] else "")
            fault = f"not here, or not with this etag: {shown}; send them, then complete the upload"
            raise RequestRejected([Detail(loc=("body", "parts"), msg=fault, type="missing")])
        file = parts.keep_joined(upload.id, upload.name, etags)
        owned.complete(upload, file)
        parts.remove(upload.id)


@contextmanager
def _expected() -> Iterator[None]:
    """Translate a missing mark in the store, which says that parts are expected, into a 404."""
    try:
        yield
    except FileNotFoundError as error:
        raise HTTPException(404, "no parts are expected: it was abandoned, or not begun in parts") from error
    except OSError as error:
        raise store_error(str(settings().home_folder), error) from error

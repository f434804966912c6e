"""The door for people: sign in with a key, sign out, and the files that every page needs."""

import mimetypes
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from flows.service import sessions
from flows.service.auth import Owner, digest_of, known_keys
from flows.service.pages.rendering import page

LARGEST = 16_384  # bytes of a sign-in
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/sign-in")
async def form(request: Request) -> Response:
    """The page to sign in with; where no keys are set, everybody is in."""
    if not known_keys():
        return RedirectResponse("/", 303)
    return page(request, "sign_in.html", wrong=False, then="/", reload=False)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Begin a session, and go on where the person was."""
    content = await request.body()
    if len(content) > LARGEST:
        raise HTTPException(413, "this is no key")
    given = parse_qs(content.decode(errors="replace"), keep_blank_values=True)
    known, then = digest_of(given.get("key", [""])[0]), _own_path(given.get("then", ["/"])[0])
    if known is None:
        return page(request, "sign_in.html", 401, wrong=True, then=then, reload=False)
    answer = RedirectResponse(then, 303, headers={"Cache-Control": "no-store"})
    await run_in_threadpool(sessions.begin, request, answer, known)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, owner: Owner) -> Response:
    """End the session of this browser."""
    answer = RedirectResponse("/sign-in", 303)
    sessions.end(request, answer)
    return answer


def door(request: Request, headers: Mapping[str, str] | None) -> Response:
    """The page to sign in with, in place of the one that was asked for.

    A browser that comes from elsewhere does not show its session until it asks again from here, so it is made to.
    """
    then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    answer = page(request, "sign_in.html", 401, wrong=False, then=then, reload=elsewhere)
    answer.headers.update(headers or {})
    return answer


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """A style or a script; browsers ask each time whether it has changed."""
    kept = _static()
    if name not in kept:
        raise HTTPException(404, "no such file")
    content, mark = kept[name]
    headers = {"ETag": mark, "Cache-Control": "public, no-cache"}
    if request.headers.get("if-none-match") == mark:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=mimetypes.guess_type(name)[0], headers=headers)


@lru_cache(maxsize=1)
def _static() -> dict[str, tuple[bytes, str]]:
    found = [file for file in files("flows.service").joinpath("static").iterdir() if file.name[0] != "."]
    return {file.name: (file.read_bytes(), f'"{sha256(file.read_bytes()).hexdigest()[:32]}"') for file in found}


def _own_path(path: str) -> str:
    """A path of this host; anything else leads to the first page, so that no link can send people elsewhere."""
    parts = urlsplit(path)
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if plain and not parts.scheme and not parts.netloc else "/"

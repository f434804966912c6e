"""The history: all requests of a key, one request with its preview and report; and the API's documentation."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from flows.service import past
from flows.service.auth import Owner
from flows.service.pages import outcome
from flows.service.pages.asked import asked
from flows.service.pages.own_machine import prefect_link
from flows.service.pages.rendering import page
from flows.service.past import STANDINGS, Wanted
from flows.service.register import Entry
from flows.service.routes.live import curve_of
from flows.service.routes.queue import APP, found, watcher_of
from schemas.endpoints import ENDPOINTS

COMPARED_WITH = 50  # latest runs of the same endpoint that are offered
LARGEST_PAGE = 1_000_000
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
async def history(
    request: Request,
    owner: Owner,
    endpoint: str = "",
    status: str = "",
    phrase: str = "",
    number: Annotated[int, Query(alias="page", ge=1, le=LARGEST_PAGE)] = 1,
) -> HTMLResponse:
    """Requests, newest first."""
    wanted = Wanted(endpoint, status, phrase)
    shown = await run_in_threadpool(past.page, owner, wanted, number)
    known = watcher_of(request).entries
    rows = [known.get(entry.id, entry) for entry in shown.entries]
    return page(
        request,
        "history.html",
        rows=[(entry, outcome.reel(entry)) for entry in rows],
        shown=shown,
        wanted=wanted,
        at=lambda n: "/?" + urlencode({"endpoint": endpoint, "status": status, "phrase": phrase, "page": n}),
        endpoints=ENDPOINTS,
        standings=STANDINGS,
        live=any(not entry.ended_at for entry in rows),
    )


@router.get("/history/{request_id}")
async def one(request: Request, request_id: str, owner: Owner) -> HTMLResponse:
    """One request: how it goes, what came of it."""
    entry = await found(request, request_id, owner)
    others = await run_in_threadpool(past.finished, owner, entry.endpoint, COMPARED_WITH) if entry.code == 200 else []
    return page(
        request,
        "request.html",
        entry=entry,
        asked=asked(entry),
        files=outcome.files(entry),
        reel=outcome.reel(entry),
        curve=await curve_of(request, entry) if entry.code == 200 else None,
        faults=outcome.faults(entry),
        billing=(entry.answer or {}).get("billing") if entry.code == 200 else None,
        warnings=(entry.answer or {}).get("warnings") if entry.code == 200 else None,
        prefect=await run_in_threadpool(prefect_link, request, entry.run_id),
        others=[other for other in others if other.id != entry.id],
        stream=f"{APP}/requests/{entry.id}/status/stream?logs=1",
        live=entry.ended_at is None,
    )


@router.post("/history/{request_id}/cancel")
async def cancel(request: Request, request_id: str, owner: Owner) -> RedirectResponse:
    """Cancel, and show the request; one that has ended is left as it is."""
    entry: Entry = await found(request, request_id, owner)
    if not entry.ended_at:
        await watcher_of(request).cancel(entry)
    return RedirectResponse(f"/history/{entry.id}", 303)


@router.get("/openapi.json", response_class=JSONResponse)
async def openapi(request: Request, owner: Owner) -> Any:
    """The OpenAPI document."""
    return request.app.openapi()


@router.get("/docs")
async def documentation(request: Request, owner: Owner) -> HTMLResponse:
    """Routes and fields, from the OpenAPI document."""
    document = request.app.openapi()
    schemas = document["components"]["schemas"]
    requests = {name: schemas[endpoint.request.__name__] for name, endpoint in ENDPOINTS.items()}
    return page(request, "docs.html", paths=document["paths"], requests=requests, app=APP, of=_kind)


def _kind(field: dict[str, Any]) -> str:
    """The type of a field, in a word."""
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    return str(field.get("type", "object" if "$ref" in field else " | ".join(map(_kind, field.get("anyOf", [])))))

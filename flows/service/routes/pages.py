"""The history page: all requests of a key, one request with its preview and report, and the API's documentation.

Rendered here, without scripts but for live progress, which the page also has without them: it then reloads itself.
"""

from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FunctionLoader, StrictUndefined

from flows.hosting.prefect_server import prefect_url
from flows.service import register
from flows.service.auth import Owner
from flows.service.links import link
from flows.service.register import Entry
from flows.service.routes.queue import APP, watcher_of
from schemas.endpoints import ENDPOINTS
from schemas.redaction import without_secrets

SHOWN = 200
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def _template(name: str) -> str:
    return files("flows.service").joinpath("templates", name).read_text(encoding="utf-8")


PAGES = Environment(loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined)


@router.get("/")
async def history(request: Request, owner: Owner) -> HTMLResponse:
    """The latest requests."""
    entries = await run_in_threadpool(register.newest, owner, SHOWN)
    known = watcher_of(request).entries
    rows = [known.get(entry.id, entry) for entry in entries]
    return _page("history.html", entries=rows, live=any(not entry.ended_at for entry in rows), shown=SHOWN)


@router.get("/history/{request_id}")
async def one(request: Request, request_id: str, owner: Owner) -> HTMLResponse:
    """One request: how it goes, what came of it."""
    entry = await watcher_of(request).find(request_id, owner)
    if entry is None:
        raise HTTPException(404, f"no request {request_id}")
    return _page(
        "request.html",
        entry=entry,
        fields=sorted(without_secrets(entry.body).items()),
        files=_files(entry),
        faults=_faults(entry),
        billing=(entry.answer or {}).get("billing") if entry.code == 200 else None,
        prefect=prefect_url() if _is_here(request) else None,
        stream=f"{APP}/requests/{entry.id}/status/stream?logs=1",
        live=entry.ended_at is None,
    )


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
    return _page("docs.html", paths=document["paths"], requests=requests, app=APP, of=_kind, live=False)


def _is_here(request: Request) -> bool:
    """Whether a browser of this machine asks: Prefect's pages are open to no other."""
    return request.client is not None and request.client.host in ("127.0.0.1", "::1")


def _page(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(PAGES.get_template(name).render(**values), headers=HEADERS)


def _files(entry: Entry) -> dict[str, tuple[str, dict[str, Any]]]:
    """Files of a run: field of the result -> link and file. Links are relative: this page's own host serves them."""
    if entry.code != 200:
        return {}
    found = {name: file for name, file in (entry.answer or {}).items() if isinstance(file, dict) and "url" in file}
    return {name: (_local(link(entry, file["file_name"])), file) for name, file in found.items()}


def _local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _faults(entry: Entry) -> list[str]:
    if entry.code in (None, 200):
        return []
    detail = (entry.answer or {}).get("detail", [])
    return [detail] if isinstance(detail, str) else [str(each["msg"]) for each in detail]


def _kind(field: dict[str, Any]) -> str:
    """The type of a field, in a word."""
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    return str(field.get("type", "object" if "$ref" in field else " | ".join(map(_kind, field.get("anyOf", [])))))

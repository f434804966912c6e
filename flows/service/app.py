"""The HTTP API as one application: `create_app()`; `ltx-flows serve` runs it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from flows.service import webhooks
from flows.service.auth import NotSignedIn, wants_page
from flows.service.guard import Guard, allowed_origins
from flows.service.middleware import BodyLimit, Proxy, RequestId, WithoutQueries
from flows.service.pages.rendering import problem
from flows.service.prefect_runs import PrefectRuns, Runs
from flows.service.routes import compare, direct, files, live, multipart, pages, plan, queue, sign_in, train, uploads
from flows.service.upload_register import forget_abandoned
from flows.service.watcher import MAY_PASS, Watcher, attempt
from schemas.endpoints import ENDPOINTS
from schemas.errors import LtxFlowsError, SettingsUnreadable
from schemas.redaction import for_clients
from schemas.rejections import InputRejected, bounded
from schemas.settings import settings
from tasks.storage.home import private_home

log = logging.getLogger("ltx_flows.service")
ROUTERS = (
    queue.router,
    direct.router,
    plan.router,
    uploads.router,
    multipart.router,
    files.router,
    webhooks.router,
    pages.router,
    train.router,
    compare.router,
    live.router,
    sign_in.router,
)
NO_CONTENT = (204, 304)
ANSWERED = ["x-fal-request-id", "x-fal-billable-units", "x-fal-error-type", "retry-after", "etag"]


def create_app(runs: Runs | None = None, names: Sequence[str] = ()) -> FastAPI:
    """Create the application, or end the process where the settings cannot be read.

    Args:
        runs: what starts its requests, by default Prefect's deployments.
        names: under which it is served, besides the machine's own and those in the settings.
    """
    _check_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        private_home()
        app.state.watcher = watcher = Watcher(runs or PrefectRuns())
        await watcher.begin()
        # beside the rest, as a store that hangs must not hold it up
        watcher.in_background(lambda: attempt(asyncio.to_thread(forget_abandoned)))
        try:
            yield
        finally:
            await watcher.end()

    app = FastAPI(
        title="ltx-flows",
        version=version("ltx-flows"),
        description="LoRA training for LTX-2.3 on your own GPU, as clients of fal-ai/ltx23-trainer-v2 speak to it.",
        lifespan=lifespan,
        openapi_url=None,  # for everybody; ours, in pages.py, asks for a key
        docs_url=None,  # theirs load scripts from elsewhere
        redoc_url=None,
    )
    app.state.plans = plan.Slots()
    app.state.submitted = {}  # by key: when it submitted in the last minute
    for router in ROUTERS:
        app.include_router(router)
    _add_layers(app, names)
    logging.getLogger("uvicorn.access").addFilter(WithoutQueries())
    _add_faults(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _check_settings() -> None:
    """End the process where settings cannot be read: uvicorn would show another error of a factory as a traceback."""
    try:
        settings()
    except SettingsUnreadable as error:
        raise SystemExit(str(error)) from None


def _add_layers(app: FastAPI, names: Sequence[str]) -> None:
    """Add the middleware; the last layer is the outermost."""
    app.add_middleware(BodyLimit)
    app.add_middleware(Proxy)
    if origins := sorted(allowed_origins()):  # their pages send keys, and never our cookie
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["*"],
            expose_headers=ANSWERED,
        )
    app.add_middleware(Guard, names=names)
    app.add_middleware(RequestId)
    if proxies := settings().trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[each.strip() for each in proxies.split(",")])


def _add_faults(app: FastAPI) -> None:
    """How errors are answered."""
    app.add_exception_handler(InputRejected, _rejected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(HTTPException, _missing)
    for kind in (LtxFlowsError, *MAY_PASS):
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(Exception, _broken)


async def _rejected(request: Request, error: Exception) -> JSONResponse:
    """Answer to a request that is wrong, or whose data are."""
    assert isinstance(error, InputRejected)
    faults = [detail.model_dump(mode="json") for detail in bounded(error.details())]
    return JSONResponse({"detail": faults}, 422, {"X-Fal-Retryable": "false", "x-fal-billable-units": "0"})


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer to a wrong path or query, in the shape of a 422."""
    assert isinstance(error, RequestValidationError)
    faults = [{**fault, "loc": list(fault["loc"]), "input": str(fault.get("input"))} for fault in error.errors()]
    kept = [{name: fault[name] for name in ("loc", "msg", "type", "input")} for fault in faults]
    return JSONResponse({"detail": kept}, 422, {"X-Fal-Retryable": "false"})


async def _not_signed_in(request: Request, error: Exception) -> Response:
    """Answer to a request without a key: people get the page to sign in with, at the address that they asked for."""
    assert isinstance(error, NotSignedIn)
    if request.method == "GET" and wants_page(request):
        return sign_in.door(request, headers=error.headers)
    return JSONResponse({"detail": error.detail}, 401, error.headers)


async def _missing(request: Request, error: Exception) -> Response:
    """Answer to a request for what is not there, or not allowed: a page for people, else FastAPI's own."""
    assert isinstance(error, HTTPException)
    if request.method == "GET" and wants_page(request) and error.status_code not in NO_CONTENT:
        return problem(request, error.status_code, str(error.detail))
    return await http_exception_handler(request, error)


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer while a part of ours does not answer."""
    kind = "service_unavailable"
    log.warning("%s", error)
    told = for_clients(str(error)) if isinstance(error, LtxFlowsError) else "something of ours does not answer"
    if request.method == "GET" and wants_page(request):
        return problem(request, 503, f"{told[:1].upper()}{told[1:]}. Your trainings go on; try again in a moment.")
    return JSONResponse({"detail": told, "error_type": kind}, 503, {"X-Fal-Error-Type": kind})


async def _broken(request: Request, error: Exception) -> JSONResponse:
    """Answer to a defect of ours. uvicorn logs the defect; this answer passes no layer, so that it names itself."""
    kind = "internal_server_error"
    headers = {"X-Fal-Error-Type": kind, "x-fal-request-id": str(uuid4())}
    return JSONResponse({"detail": "a defect of ltx-flows; its log says more", "error_type": kind}, 500, headers)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the schemas of bodies that are parsed by hand."""
    if not app.openapi_schema:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        models: list[type[BaseModel]] = [uploads.NewFile, multipart.SentParts]
        for model in models + [endpoint.request for endpoint in ENDPOINTS.values()]:
            body = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(body.pop("$defs", {}))
            schemas[model.__name__] = body
        document["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Key <API key>"}
        }
        document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema

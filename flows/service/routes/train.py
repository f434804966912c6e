"""The page to train from: a form per endpoint, its plan, its price. The form speaks to the API as any client does."""

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from flows.service.auth import Owner
from flows.service.pages.asked import to_ask_again
from flows.service.pages.form import form_of
from flows.service.pages.rendering import page
from flows.service.routes.queue import APP, found
from schemas.endpoint import LEAST_BILLED_UNITS
from schemas.endpoints import ENDPOINTS

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/train")
async def endpoints(request: Request, owner: Owner) -> HTMLResponse:
    """Which endpoint is to be trained by."""
    return page(request, "endpoints.html", endpoints=ENDPOINTS)


@router.get("/train/{name:path}")
async def form(request: Request, name: str, owner: Owner, again: str = "") -> HTMLResponse:
    """The form of an endpoint; filled in as an earlier request was, if one is named."""
    endpoint = ENDPOINTS.get(name)
    if endpoint is None:
        raise HTTPException(404, f"no endpoint {name[:100]}")
    fields, hidden = form_of(endpoint.request), list[str]()
    if again:
        body, hidden = to_ask_again(await found(request, again, owner))
        fields = fields.filled(body)
    return page(
        request,
        "form.html",
        endpoint=endpoint,
        form=fields,
        hidden=hidden,
        again=again,
        app=APP,
        least_billed=LEAST_BILLED_UNITS,
    )

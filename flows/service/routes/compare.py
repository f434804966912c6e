"""Runs side by side: their reels, their loss curves, and the fields in which they differ."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from flows.service.auth import Owner
from flows.service.pages import outcome
from flows.service.pages.asked import differences
from flows.service.pages.rendering import page
from flows.service.routes.live import curve_of
from flows.service.routes.queue import found

MOST = 4
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/compare")
async def compare(request: Request, owner: Owner, run: Annotated[list[str] | None, Query()] = None) -> HTMLResponse:
    """Two to four requests of this key, in the order in which they are named."""
    entries = [await found(request, each, owner) for each in list(dict.fromkeys(run or []))[:MOST]]
    return page(
        request,
        "compare.html",
        runs=[(entry, outcome.reel(entry), await curve_of(request, entry)) for entry in entries],
        differences=differences(entries) if len(entries) > 1 else [],
        most=MOST,
    )

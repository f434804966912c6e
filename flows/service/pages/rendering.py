"""Rendering of our pages: templates, and headers under which a browser runs nothing but our own scripts."""

from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FunctionLoader, StrictUndefined

from flows.service import sessions
from flows.service.pages import words
from schemas.settings import settings
from tasks.storage.folder import Place

MISSING = 404


def _template(name: str) -> str:
    return files("flows.service").joinpath("templates", name).read_text(encoding="utf-8")


PAGES = Environment(
    loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
PAGES.filters |= {"amount": words.amount, "size": words.size, "duration": words.duration, "standing": words.standing}


def page(request: Request, name: str, code: int = 200, **values: Any) -> HTMLResponse:
    """A page of this template."""
    known = {"live": False, "path": request.url.path, "signed_in": sessions.COOKIE in request.cookies}
    content = PAGES.get_template(name).render(**known | values)
    return HTMLResponse(content, code, headers=_headers(settings().outputs_url))


def problem(request: Request, code: int, told: str) -> HTMLResponse:
    """A page that says why there is no page."""
    return page(request, "problem.html", code, told=told, missing=code == MISSING)


@lru_cache(maxsize=4)
def _headers(outputs: str) -> dict[str, str]:
    elsewhere = _origin(outputs)
    return {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        f"img-src 'self' data: {elsewhere}; media-src 'self' {elsewhere}; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",  # without a referrer, browsers do not say where a form is from
    }


def _origin(outputs: str) -> str:
    """Where links to finished files lead in the end, if that is S3."""
    place = Place(outputs)
    if not place.on_s3:
        return ""
    parts = urlsplit(place.link("reel", settings().link_seconds))
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else ""

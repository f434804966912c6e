"""Files of this machine behind the links on runs' pages: read-only, each by its signature, in parts for players."""

import hmac
import mimetypes
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import QueryParams
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.storage.file_links import ROUTE, signature

SHOWN = ("video/", "audio/", "image/", "text/", "application/json")  # in the browser; all else is saved
DOCUMENTS = ("text/html", "image/svg+xml")  # may run no script here; a player in a sandbox would not be let in again
READ = ("GET", "HEAD")


class Files:
    """Middleware that serves signed links, and leaves everything else to the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{ROUTE}/"):
            await self.app(scope, receive, send)
            return
        await _answer(scope)(scope, receive, send)


def _answer(scope: Scope) -> Response:
    query, name = QueryParams(scope["query_string"]), scope["path"].removeprefix(f"{ROUTE}/")
    path, given = query.get("path", ""), query.get("signature", "")
    if scope["method"] not in READ:
        return PlainTextResponse("files are only read here", 405)
    if not hmac.compare_digest(signature(path).encode(), given.encode()):
        return PlainTextResponse("this link is not one of ours", 403)
    if not Path(path).is_file():
        return PlainTextResponse("this file is gone: moved, pruned, or made anew elsewhere", 404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    way = "inline" if kind.startswith(SHOWN) else "attachment"
    headers = {
        "Content-Disposition": f"{way}; filename*=utf-8''{quote(Path(name).name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private",
    }
    if kind in DOCUMENTS:
        headers["Content-Security-Policy"] = "sandbox"
    return FileResponse(path, media_type=kind, headers=headers)

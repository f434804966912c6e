"""A request's file: JSON, in which plain paths may stand for URLs."""

import json
import os
from pathlib import Path
from typing import Any

from schemas.endpoint import Endpoint
from schemas.endpoints import ENDPOINTS
from schemas.rejections import Detail, RequestRejected
from schemas.request import TrainRequest
from schemas.settings import settings
from tasks.sources.fetch import check_all
from tasks.storage.home import private_home


def read_request(name: str, path: Path) -> tuple[Endpoint[Any], TrainRequest]:
    """The request of a file, with plain paths made absolute. Nothing is started for it.

    Raises:
        InputRejected: all that is wrong with it.
    """
    allow_files()
    endpoint = ENDPOINTS[name]
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        fault = Detail(loc=("body",), msg=f"{path} is not JSON: {error}", type="json_invalid")
        raise RequestRejected([fault]) from error
    request = endpoint.read(_with_file_urls(body, path.absolute().parent))
    check_all(request.model_dump(mode="json"))
    private_home()
    return endpoint, request


def allow_files() -> None:
    """Open the whole file system to requests: users of the command may read the files that the command may read."""
    os.environ.setdefault("LTX_FLOWS_ALLOW_FILE_ROOT", "/")
    settings.cache_clear()


def _with_file_urls(value: Any, beside: Path) -> Any:  # any JSON
    """Plain paths, from the working folder or from beside the request, as file:// URLs."""
    if isinstance(value, dict):
        return {
            key: _file_url(item, beside)
            if key.endswith("_url") and isinstance(item, str)
            else _with_file_urls(item, beside)
            for key, item in value.items()
        }
    return [_with_file_urls(item, beside) for item in value] if isinstance(value, list) else value


def _file_url(url: str, beside: Path) -> str:
    if "://" in url or url.startswith("data:") or not url:
        return url
    here = Path(url).expanduser()
    return (here if here.exists() else beside / here).absolute().as_uri()

"""A body -> a checked request: faults are told as the hosted endpoints do, files that it holds go to the store."""

import json
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from schemas.endpoint import Endpoint
from schemas.errors import Detail, RequestRejected
from tasks.fetching import fetch
from tasks.uploaded import uploaded_url

MOST_NESTED = 16  # of values in values; no request needs more than four
WEBHOOKS = ("webhookUrl", "webhook_url", "webhook", "fal_webhook")


async def read_request(request: Request, endpoint: Endpoint[Any]) -> dict[str, Any]:
    """The body of a request, as its run will read it.

    Raises:
        RequestRejected: with every fault of the body.
    """
    content = await request.body()
    return await run_in_threadpool(_read, content, endpoint)  # large ones must not keep others waiting


def _read(content: bytes, endpoint: Endpoint[Any]) -> dict[str, Any]:
    try:
        body = json.loads(content)
        _check_tellable(body)
    except (ValueError, RecursionError) as error:
        fault = Detail(loc=("body",), msg=f"the body is no JSON: {error}", type="json_invalid")
        raise RequestRejected([fault]) from error
    if isinstance(body, dict) and (wrong := next((key for key in WEBHOOKS if key in body), None)):
        advice = "a webhook is not part of the request; add it to the URL: ?fal_webhook=https://..."
        raise RequestRejected([Detail(loc=("body", wrong), msg=advice, type="extra_forbidden", input=body[wrong])])
    checked = endpoint.read(body)
    kept: dict[str, Any] = _without_data(checked.model_dump(mode="json"), ())
    return kept


def _check_tellable(body: Any) -> None:  # any JSON
    """Faults repeat what is wrong, so it must be possible to say it.

    Raises:
        ValueError: half of a surrogate pair, or values in values in values without end.
    """
    layer, depth = [body], 0
    while layer:
        if (depth := depth + 1) > MOST_NESTED:
            raise ValueError(f"values are nested more than {MOST_NESTED} deep")
        layer = [
            inner
            for value in layer
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    json.dumps(body, ensure_ascii=False).encode()


def _without_data(value: Any, where: tuple[str | int, ...]) -> Any:
    """The same with the files of data: URIs in the store: what Prefect keeps of a run has to stay small."""
    if isinstance(value, dict):
        return {key: _without_data(item, (*where, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_data(item, (*where, index)) for index, item in enumerate(value)]
    if isinstance(value, str) and where and str(where[-1]).endswith("_url") and value[:5].lower() == "data:":
        return uploaded_url(fetch(value, where))
    return value

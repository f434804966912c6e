"""Request bodies: a body -> a checked request; faults are told as the hosted endpoints do, files named by content."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from flows.service import quota
from flows.service import upload_register as addresses
from flows.service.buckets import check_bucket
from flows.service.guard import only_json
from flows.service.links import origin
from flows.service.owned import check_owned
from schemas.endpoint import Endpoint
from schemas.rejections import Detail, DownloadRejected, Loc, Rejections, RequestRejected
from tasks.sources.fetch import check, fetch, name_of
from tasks.sources.upload_url import uploaded, uploaded_url

MOST_BYTES = 2**20  # of a body, without the files that it holds
MOST_VALUES = 5000
MOST_NESTED = 16  # of values in values; no request needs more than four
WEBHOOKS = ("webhookUrl", "webhook_url", "webhook", "fal_webhook")


async def read_request(request: Request, endpoint: Endpoint[Any], owner: str) -> dict[str, Any]:
    """The body of a request, in the form that its run will read.

    Raises:
        RequestRejected: with every fault of the body.
        Rejections: of files that it holds, or that its owner has uploaded.
        HTTPException: 413, 415: it is too large, or does not say that it is JSON.
    """
    only_json(request)
    body = await run_in_threadpool(_read, await request.body(), endpoint)  # large ones must not keep others waiting
    return await run_in_threadpool(_by_content, body, owner, origin(request))


def _read(content: bytes, endpoint: Endpoint[Any]) -> dict[str, Any]:
    if (size := _size_without_files(content)) > MOST_BYTES:
        raise HTTPException(413, f"the body has {size} bytes beside its data: URIs, {MOST_BYTES} are allowed")
    try:
        body = json.loads(content)
        _check_tellable(body)
    except (ValueError, RecursionError) as error:
        fault = Detail(loc=("body",), msg=f"the body is no JSON: {error}", type="json_invalid")
        raise RequestRejected([fault]) from error
    if isinstance(body, dict) and (wrong := next((key for key in WEBHOOKS if key in body), None)):
        advice = "a webhook is not part of the request; add it to the URL: ?fal_webhook=https://..."
        raise RequestRejected([Detail(loc=("body", wrong), msg=advice, type="extra_forbidden", input=body[wrong])])
    checked: dict[str, Any] = endpoint.read(body).model_dump(mode="json")
    return checked


def _size_without_files(content: bytes) -> int:
    """Bytes of a body, but for those of the files that it holds."""
    files = at = 0
    while (start := content.find(b'"data:', at)) >= 0 and (at := content.find(b'"', start + 1) + 1):
        files += at - start
    return len(content) - files


def _check_tellable(body: Any) -> None:  # any JSON
    """Check that a body can be repeated in an error message, as faults show the wrong value.

    Raises:
        ValueError: half of a surrogate pair, values without end, or values in values in values.
    """
    layer, depth, count = [body], 0, 0
    while layer:
        if (depth := depth + 1) > MOST_NESTED:
            raise ValueError(f"values are nested more than {MOST_NESTED} deep")
        if (count := count + len(layer)) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        layer = [
            inner
            for value in layer
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    json.dumps(body, ensure_ascii=False).encode()


def _by_content(body: dict[str, Any], owner: str, here: str) -> dict[str, Any]:
    """The body with its files and earlier uploads named by their content, so that the same files are found again."""
    faults: list[DownloadRejected] = []

    def change(url: str, where: Loc) -> str:
        try:
            if url[:5].lower() == "data:":
                return _uploaded_within(url, where, owner)
            settled = _settled(url, where, owner, here)
            check_owned(settled, where, owner)
            check_bucket(settled, where)
            check(settled, where)
            return settled
        except DownloadRejected as fault:
            faults.append(fault)
            return url

    changed: dict[str, Any] = _with_urls(body, change)
    if faults:
        raise Rejections(faults)
    return changed


def _with_urls(value: Any, change: Callable[[str, Loc], str], where: Loc = ()) -> Any:
    if isinstance(value, dict):
        return {key: _with_urls(item, change, (*where, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_urls(item, change, (*where, index)) for index, item in enumerate(value)]
    if isinstance(value, str) and where and str(where[-1]).endswith("_url"):
        return change(value, where)
    return value


def _uploaded_within(url: str, where: Loc, owner: str) -> str:
    """Address by content of a file inside a request: uploaded for its owner, as any other."""
    quota.check(owner, len(url) * 3 // 4)  # of base64; nobody writes large files in another way
    file = fetch(url, where)
    quota.own(owner, file)
    return uploaded_url(file)


def _settled(url: str, where: Loc, owner: str, here: str) -> str:
    """Address by content of an upload address given out before its content was known; any other URL as it is.

    Raises:
        DownloadRejected: its owner has not completed an upload to there.
    """
    told = addresses.told_id(url)
    upload = addresses.find(told) if told else None
    if upload is None and not (told and url.startswith(f"{here}/")):
        return url
    if upload is None or upload.owner != owner:
        raise DownloadRejected(name_of(url), "nothing was uploaded to there with this key", where=where)
    known = upload.content_url
    if known is None:
        raise DownloadRejected(upload.name, "its upload is not complete", where=where)
    if uploaded(known) is None:
        raise DownloadRejected(upload.name, "it is not kept any more; upload it again", where=where)
    return known

"""Redaction: requests and log lines without secrets, and messages to clients without details of this machine."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def without_secrets(value: Any) -> Any:  # any JSON
    """The JSON value with the user, query and fragment of every URL removed."""
    if isinstance(value, dict):
        return {
            key: _bare(item) if key.endswith("_url") and item else without_secrets(item) for key, item in value.items()
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


LONGEST_LINE = 200


def in_a_line(error: BaseException) -> str:
    """An error as one line of our log, without the body of an answer: Prefect's errors repeat the request."""
    return f"{type(error).__name__}: {error}".splitlines()[0].partition(" - Response:")[0][:LONGEST_LINE]


HIDDEN = "[...]"
_OF_THIS_MACHINE = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\")\]},;]+"  # addresses, of databases and servers, too
    r"|(?<=['\"])~?/[^'\"\n]+(?=['\"])|(?<![\w.:/-])~?/(?:[\w.+@%=-]+/)*[\w.+@%=-]+/?"  # paths
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])"  # IPv4
    r"|(?<![\w.])(?=[\w.-]*[a-z])(?:[a-z0-9-]+\.)*[a-z0-9-]+:\d{4,5}(?![\w:.])|(?<=host=)['\"][^'\"]+['\"]",
    re.IGNORECASE,
)


def for_clients(text: str) -> str:
    """A message for a client of the API: without paths, addresses and host names of this machine and its neighbours."""
    return _OF_THIS_MACHINE.sub(HIDDEN, text)

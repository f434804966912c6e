"""Buckets that requests of the API may read from, as S3 is read with this machine's credentials, not the client's."""

import re
from urllib.parse import unquote, urlsplit

from schemas.rejections import DownloadRejected, Loc
from schemas.settings import settings
from tasks.sources.fetch import name_of

SCHEME = "s3"  # the only one with credentials: web pages are asked without any, files have a setting of their own
_PREFIX = re.compile(r"s3://[^/\s]+(/[^/\s]+)*")


def check_bucket(url: str, where: Loc) -> None:
    """Check that the settings open an object to the API.

    Raises:
        DownloadRejected: they do not.
    """
    if _scheme(url) == SCHEME and not any(_is_below(url, prefix) for prefix in _open_prefixes()):
        bucket = re.split(r"[/?#]", url.partition("://")[2])[0].rpartition("@")[2]
        reason = (
            f"the bucket {bucket} is not open to this API there; whoever runs it may add it to LTX_FLOWS_API_BUCKETS"
        )
        raise DownloadRejected(name_of(url), reason, where=where)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # no URL, which is refused elsewhere
        return ""


def _open_prefixes() -> list[str]:
    """Prefixes of the settings; a text that is no prefix, such as `s3://` alone, opens nothing."""
    prefixes = (each.strip().rstrip("/") for each in settings().api_buckets.split(","))
    return [each for each in prefixes if _PREFIX.fullmatch(each)]


def _is_below(url: str, prefix: str) -> bool:
    """Whether an address lies below a prefix as written, with no part that could be taken for a way out."""
    steps = re.split(r"[/\\]", unquote(url))
    return url.startswith(f"{prefix}/") and not {".", ".."}.intersection(steps)

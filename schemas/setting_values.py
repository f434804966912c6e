"""Values of settings as people write them: sizes such as 5GB, devices, addresses, lists; each says what it must be."""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

UNITS = {"B": 1} | {
    f"{letter}{kind}": base**power
    for power, letter in enumerate("KMGT", 1)
    for kind, base in (("B", 1000), ("IB", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)", re.IGNORECASE)
_ONE_COLON = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!//|:).*")  # `s3:/bucket` would be a folder of that name


def without_control_characters(value: Any) -> Any:
    """The value; a control character in it, such as the end of a line from Windows, is refused.

    Raises:
        ValueError: there is one.
    """
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("without control characters, such as the end of a line")
    return value


def size(value: Any) -> Any:
    """Bytes of a size such as `5GB` or `1.5 GiB`; a plain number is pydantic's to read.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, str):
        return value
    if found := _SIZE.fullmatch(value.strip()):
        if found[2].upper() not in UNITS:
            raise ValueError("a size in B, KB, MB, GB, TB, KiB, MiB, GiB or TiB")
        return int(Decimal(found[1]) * UNITS[found[2].upper()])
    try:
        return int(value)
    except ValueError:
        raise ValueError("a number of bytes, or a size such as 5GB or 5GiB") from None


def _text(pattern: str, wanted: str) -> AfterValidator:
    """Check of a whole text; an empty one is as good as none."""

    def check(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(wanted)
        return text

    return AfterValidator(check)


def _list(is_one: Callable[[str], object], wanted: str) -> AfterValidator:
    """Check of every item of a list that is separated by commas."""

    def check(text: str) -> str:
        if not all(is_one(item.strip()) for item in text.split(",") if item.strip()):
            raise ValueError(wanted)
        return text

    return AfterValidator(check)


def _place(text: str) -> str:
    if _ONE_COLON.fullmatch(text):
        raise ValueError("a folder or a URL such as s3://bucket/folder, with two slashes")
    return text


def _keys(keys: SecretStr) -> SecretStr:
    """Keys that are none would open the API to everybody, which nobody who sets them means."""
    text = keys.get_secret_value()
    if text and not all(key.strip() and len(key.split()) == 1 for key in text.split(",")):
        raise ValueError("keys separated by commas, none of them empty or with a space in it")
    return keys


def _secret_database(url: SecretStr) -> SecretStr:
    if (text := url.get_secret_value()) and not re.fullmatch(_DATABASE, text):
        raise ValueError(_DATABASE_WORDS)
    return url


def _is_proxy(text: str) -> bool:
    try:
        return text == "*" or bool(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return False


_DATABASE = r"(postgresql(\+\w+)?://.+|sqlite(\+\w+)?:///.+)"
_DATABASE_WORDS = "a URL such as postgresql://user:password@host/name or sqlite:////path/to/file"

Size = Annotated[int, BeforeValidator(size), Field(ge=0)]
BaseModelName = Annotated[str, _text(r"(?!.*://).+", "`tiny`, a folder, or an id on the Hub, which is no URL")]
Place = Annotated[str, AfterValidator(_place)]
Database = Annotated[str, _text(_DATABASE, _DATABASE_WORDS)]
SecretDatabase = Annotated[SecretStr, AfterValidator(_secret_database)]
Device = Annotated[str, _text(r"auto|cpu|cuda(:\d+)?", "`auto`, `cpu`, `cuda` or such as `cuda:1`")]
Keys = Annotated[SecretStr, AfterValidator(_keys)]
Buckets = Annotated[
    str,
    _list(
        re.compile(r"s3://[^/\s]+(/[^/\s]+)*/?").fullmatch,
        "prefixes such as s3://bucket or s3://bucket/folder, separated by commas",
    ),
]
Hosts = Annotated[
    str,
    _list(
        re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?|\[?[0-9a-fA-F:]+\]?").fullmatch,
        "names without scheme, port and path, separated by commas",
    ),
]
Origins = Annotated[
    str,
    _list(
        re.compile(r"https?://(?:[\w-]+(\.[\w-]+)*\.?|\[[0-9a-fA-F:]+\])(:\d+)?/?").fullmatch,
        "origins such as https://studio.example.org, without a path, separated by commas",
    ),
]
Proxies = Annotated[str, _list(_is_proxy, "addresses such as 10.0.0.1 or 10.0.0.0/8, separated by commas, or `*`")]
Url = Annotated[str, _text(r"https?://[^/\s]+(/\S*)?", "a URL such as https://ltx.example.org")]

"""Settings that cannot be read, in a line each: the name, the value unless that is secret, and what to do."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

WANTED = {  # by pydantic's type of error
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} or less",
    "value_error": "{error}",
}
_IN_URL = re.compile(r"(?<=://)[^/\s]*@")  # user and password
_QUERY = re.compile(r"(?<=://)(.*?)\?.*", re.DOTALL)
# what Kubernetes puts into every container of a namespace that has a service of our name
_OF_KUBERNETES = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR))=.*"
    r"|\w+_PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
)


def unread(error: ValidationError, prefix: str, fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """Each setting that pydantic refuses, with its line."""
    wanted: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for fault in error.errors():
        field = str(fault["loc"][0])
        wanted.setdefault(field, []).append(_wanted(fault))
        values[field] = fault["input"]
    return {
        f"{prefix}{field.upper()}": f"{_shown(f'{prefix}{field.upper()}', values[field], fields[field])} "
        f"must be {' or '.join(dict.fromkeys(words))}; correct it, or unset it for {_default(fields[field])}"
        for field, words in wanted.items()
    }


def unknown(
    environment: Mapping[str, str], prefix: str, known: Collection[str], others: Collection[str]
) -> dict[str, str]:
    """Each variable with our prefix that is no setting, with the nearest one that is; values may be secret.

    Args:
        environment: the process's variables.
        prefix: of all that are ours.
        known: the settings.
        others: variables that are no settings and no fault.
    """
    found = {}
    for name, value in environment.items():
        upper = name.upper()
        if (
            upper.startswith(prefix)
            and upper not in (*known, *others)
            and not _OF_KUBERNETES.fullmatch(f"{upper}={value}")
        ):
            found[name] = f"{name} is no setting: {_meant(upper, prefix, known)}"
    return found


def _meant(name: str, prefix: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name.removeprefix(prefix), [each.removeprefix(prefix) for each in known], 1)
    if not nearest:
        return "unset it; README.md lists all that there are"
    return f"did you mean {prefix}{nearest[0]}? Else unset it"


def _shown(name: str, value: Any, field: FieldInfo) -> str:
    if field.annotation is SecretStr:
        return f"{name} (its value is secret)"
    bare = _QUERY.sub(r"\1?[...]", _IN_URL.sub("[...]@", str(value)))
    return f"{name}={bare.encode('unicode_escape').decode()}"


def _default(field: FieldInfo) -> str:
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if default in ("", None):
        return "the default"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _wanted(fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors in the words of a remedy."""
    words = WANTED.get(fault["type"])
    return words.format(**fault.get("ctx", {})) if words else str(fault["msg"])

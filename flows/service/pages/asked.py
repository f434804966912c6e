"""What was asked in a request, for people: what was set, what was left at its default, where two requests differ."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from flows.service.pages.form import names_of
from flows.service.register import Entry
from schemas.endpoints import ENDPOINTS
from schemas.redaction import without_secrets
from schemas.request import TrainRequest

Told = tuple[str, str, str]  # a field's name, its title and its value


class Asked(NamedTuple):
    """The fields of a request."""

    set: list[Told]
    left: list[Told]


class Difference(NamedTuple):
    """A field whose values differ, with the value of each request; None where one has no such field."""

    title: str
    values: list[str | None]


def asked(entry: Entry) -> Asked:
    """The fields of a request in the order of its form; those that were set apart from defaults."""
    kept: list[Told] = []
    left: list[Told] = []
    for name, value in _ordered(entry):
        told = (name, title(entry, name), in_words(value))
        (left if _is_default(entry, name) else kept).append(told)
    return Asked(kept, left)


def differences(entries: Sequence[Entry]) -> list[Difference]:
    """The fields in which requests differ, in the order of the first one's form."""
    bodies = [{"endpoint": entry.endpoint} | without_secrets(entry.body) for entry in entries]
    names = list(dict.fromkeys(name for body in bodies for name in body))
    found = []
    for name in names:
        values = [body.get(name) for body in bodies]
        if any(value != values[0] for value in values):
            titled = next(entry for entry, body in zip(entries, bodies, strict=True) if name in body)
            shown = [in_words(body[name]) if name in body else None for body in bodies]
            found.append(Difference(title(titled, name), shown))
    return found


def title(entry: Entry, name: str) -> str:
    """What a form calls a field."""
    endpoint = ENDPOINTS.get(entry.endpoint)
    field = endpoint.request.model_fields.get(name) if endpoint else None
    return (field.title if field else None) or name.replace("_", " ").capitalize()


def in_words(value: Any) -> str:  # any JSON
    """A value of a field, without signs that only programs read."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", []):
        return "none"
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {in_words(each)}" for name, each in value.items() if each)
    if isinstance(value, list):
        return "\n".join(f"{number}. {in_words(each)}" for number, each in enumerate(value, 1))
    if isinstance(value, str) and value.startswith("upload://"):
        return f"{unquote(urlsplit(value).path.rpartition('/')[2])} (uploaded)"
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def to_ask_again(entry: Entry) -> tuple[dict[str, Any], list[str]]:
    """The fields for another request like this one, and the titles of links whose secret part must be given anew."""
    body = without_secrets(entry.body)
    hidden = [title(entry, name) for name, value in entry.body.items() if value != body[name]]
    return body, hidden


def _ordered(entry: Entry) -> list[tuple[str, Any]]:
    body = without_secrets(entry.body)
    endpoint = ENDPOINTS.get(entry.endpoint)
    form: type[TrainRequest] | None = endpoint.request if endpoint else None
    order = [name for name in names_of(form) if name in body] if form else []
    return [(name, body[name]) for name in dict.fromkeys([*order, *body])]


def _is_default(entry: Entry, name: str) -> bool:
    endpoint = ENDPOINTS.get(entry.endpoint)
    field = endpoint.request.model_fields.get(name) if endpoint else None
    return field is not None and not field.is_required() and field.default == entry.body[name]

"""The 422s of an endpoint: those of its fields, found by sending wrong values, and those of its data.

Nothing is listed by hand: each field is tried at and beyond its bounds, so a rule that somebody adds shows itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flows.manual.facts import PREVIEWS, Facts
from flows.manual.fields import Schema, cell, fields_of, item_of, shown
from schemas.rejections import (
    ClipTooShort,
    DataRejected,
    Detail,
    MissingRole,
    NothingLeft,
    RequestRejected,
    SilentClip,
    UnsupportedFile,
)
from schemas.request import LONGEST_URL

Body = dict[str, Any]
LONGEST_SENT = 24  # characters of a value that are shown
APPLIES: dict[type[DataRejected], Callable[[Facts], bool]] = {  # all others can happen to every archive
    MissingRole: lambda facts: len(facts.slots) > 1,
    SilentClip: lambda facts: any(track.modality == "audio" for track in facts.tracks),
    ClipTooShort: lambda facts: any(track.role != "mask" for track in facts.given_tracks),
}


@dataclass(frozen=True)
class Refusal:
    """A value that was sent, and one fault that came of it."""

    field: str
    sent: str
    allowed: bool  # by the field's own schema, so that a rule between fields has refused it
    fault: Detail

    @property
    def at(self) -> str:
        return ".".join(str(part) for part in self.fault.loc[1:])


def field_rows(facts: Facts) -> list[str]:
    """Faults of one field by itself: a row for each type, with the fields and one example."""
    alone: dict[str, list[Refusal]] = {}
    for refusal in refusals(facts):
        if not refusal.allowed:
            alone.setdefault(refusal.fault.type, []).append(refusal)
    rows = ["| type | fields | for example |", "| --- | --- | --- |"]
    for kind, found in alone.items():
        names = dict.fromkeys(_named(each.field) for each in found)
        example = f"`{found[0].sent}`: {cell(found[0].fault.msg)}"
        rows.append(f"| `{kind}` | {', '.join(names)} | {example} |")
    return rows


def rule_rows(facts: Facts) -> list[str]:
    """Faults of values that are allowed by themselves, and not beside the others: an example of each."""
    rows: dict[tuple[str, str, str], str] = {}
    for each in refusals(facts):
        if each.allowed:
            row = f"| `{each.fault.type}` | {_named(each.at)} | `{each.sent}` | {cell(each.fault.msg)} |"
            rows.setdefault((each.fault.type, each.at, each.field), row)
    head = ["| type | at | sent | message |", "| --- | --- | --- | --- |"]
    return [*head, *rows.values()] if rows else []


def data_rows(facts: Facts) -> list[str]:
    """Faults of the data that this endpoint can find."""
    rows = ["| type | when | message |", "| --- | --- | --- |"]
    for rejection in DataRejected.__subclasses__():
        if rejection not in APPLIES or APPLIES[rejection](facts):
            types = dict.fromkeys(rejection.type.format(kind=kind) for kind in _kinds(facts, rejection))
            when = (rejection.__doc__ or "").splitlines()[0]
            told = ", ".join(f"`{kind}`" for kind in types)
            rows.append(f"| {told} | {cell(when)} | {cell(rejection.message)} |")
    return rows


def refusals(facts: Facts) -> Iterator[Refusal]:
    """All that comes of wrong values, one at a time in a request that is right otherwise."""
    schema = facts.endpoint.request.model_json_schema()
    usual = {name: value for name, value in facts.example.items() if name not in facts.own}
    yield from _of_object(facts, schema, usual, lambda changed: changed, "")
    sample = item_of(schema, fields_of(schema)[PREVIEWS])
    preview = facts.example[PREVIEWS][0]
    yield from _of_object(facts, sample, preview, lambda changed: usual | {PREVIEWS: [changed]}, f"{PREVIEWS}.")


def _of_object(
    facts: Facts, schema: Schema, body: Body, whole: Callable[[Body], Body], above: str
) -> Iterator[Refusal]:
    for name in schema.get("required", ()):
        less = {key: value for key, value in body.items() if key != name}
        yield from _tried(facts, whole(less), above + name, f"{above}{name} left out", False)
    for name, field in fields_of(schema).items():
        for value, allowed in _values(field, body.get(name)):
            yield from _tried(facts, whole(body | {name: value}), above + name, _sent(above + name, value), allowed)
    yield from _tried(facts, whole(body | {"webhookUrl": ""}), f"{above}webhookUrl", f"{above}webhookUrl", False)


def _tried(facts: Facts, body: Body, field: str, sent: str, allowed: bool) -> Iterator[Refusal]:
    try:
        facts.endpoint.read(body)
    except RequestRejected as rejected:
        yield from (Refusal(field, sent, allowed, fault) for fault in rejected.details())


def _values(field: Schema, usual: Any) -> Iterator[tuple[Any, bool]]:  # any JSON
    """Values at and beyond a field's bounds, and whether its schema allows each."""
    kind, values = field["type"], field.get("enum")
    if kind in ("integer", "number"):
        least, most = field.get("minimum", min(values or [0])), field.get("maximum", max(values or [0]))
        tried = dict.fromkeys([least - 1, most + 1, *(values or [least, most, least + 1])])
        tried |= dict.fromkeys([least + 1]) if values else {}
        yield from ((value, value in values if values else least <= value <= most) for value in tried)
        yield "many", False
    elif values:
        yield from ((value, True) for value in values)
        yield "other", False
    elif kind == "boolean":
        yield "maybe", False
    elif kind == "array":
        yield (usual or [{}]) * (field["maxItems"] + 1), False
    else:
        yield 7, False
        yield "a\x00", False
        if field.get("minLength"):
            yield "", False
        yield "a" * (field.get("maxLength", LONGEST_URL) + 1), False


def _kinds(facts: Facts, rejection: type[DataRejected]) -> list[str]:
    """Modalities that a fault may name: that of the archive, and of a single file also the others."""
    first = facts.endpoint.layout.modality
    whole = rejection in (NothingLeft, UnsupportedFile)
    return [first] if whole else [first, *sorted({track.modality for track in facts.tracks} - {first})]


def _named(field: str) -> str:
    return f"`{field}`"


def _sent(name: str, value: Any) -> str:  # any JSON
    if isinstance(value, list):
        return f"{name}: {len(value)} of them"
    if isinstance(value, str) and len(value) > LONGEST_SENT:
        return f"{name}: {len(value)} characters"
    return f"{name}: {shown(value) if not isinstance(value, str) else ascii(value).replace(chr(39), chr(34))}"

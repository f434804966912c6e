"""The form of an endpoint: its request's JSON schema, as fields for a person. Order and words are the schema's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.rejections import TRAINING_DATA
from schemas.request import TrainRequest

Kind = Literal["text", "prose", "number", "choice", "switch", "archive", "media", "list", "box", "json"]
SHORT = 1000  # characters of a text that is written in one line
MEDIA = {"audio": "audio/*", "video": "video/*", "mask": "image/*,video/*", "image": "image/*"}  # by words of a name
FEW = 5  # choices that are shown side by side


@dataclass(frozen=True)
class Field:
    """One field of a form; `fields` are those of a box, or of each item of a list."""

    name: str
    title: str
    about: str
    kind: Kind
    required: bool = False
    nullable: bool = False
    value: Any = None
    default: Any = None
    whole: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[Any, ...] = ()
    longest: int | None = None
    accept: str = ""
    fields: tuple["Field", ...] = ()
    items: int | None = None

    @property
    def bounds(self) -> str:
        """The range of a number, unless its description tells it."""
        told = [_plain(each) for each in (self.least, self.most) if each is not None]
        return "" if all(each in self.about for each in told) else " to ".join(told)

    @property
    def shown(self) -> str:
        """The value as it is typed; numbers without exponents, as some people read no others."""
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return _plain(self.value) if number else str("" if self.value is None else self.value)

    @property
    def side_by_side(self) -> bool:
        return len(self.choices) <= FEW

    def filled(self, value: Any) -> "Field":
        """The field with another value."""
        inner = fill(self.fields, value) if self.kind == "box" and value else self.fields
        return replace(self, value=value, fields=inner)

    def rows(self) -> list[tuple["Field", ...]]:
        """The fields of each item of a list's value."""
        return [fill(self.fields, item) for item in self.value or () if isinstance(item, Mapping)]


@dataclass(frozen=True)
class Form:
    """The fields of an endpoint: those that matter at once, those with a default that most people leave."""

    first: tuple[Field, ...]
    folded: tuple[Field, ...]

    def filled(self, body: Mapping[str, Any]) -> "Form":
        """The form as it was filled in for an earlier request."""
        return Form(fill(self.first, body), fill(self.folded, body))


def form_of(request: type[TrainRequest]) -> Form:
    """The form for a kind of request, without fields that it takes and makes nothing of."""
    schema = request.model_json_schema()
    fields = [field for field in _fields(schema, schema.get("$defs", {})) if field.name not in request.unused]
    folded = set(request.folded)
    return Form(
        tuple(field for field in fields if field.name not in folded),
        tuple(field for field in fields if field.name in folded),
    )


def names_of(request: type[TrainRequest]) -> tuple[str, ...]:
    """All fields of a kind of request, in the order in which forms show them."""
    return tuple(request.model_json_schema()["properties"])


def fill(fields: Iterable[Field], values: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields with those values that there are."""
    return tuple(field.filled(values[field.name]) if field.name in values else field for field in fields)


def _fields(schema: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[Field, ...]:
    required = schema.get("required", ())
    return tuple(_field(name, about, name in required, known) for name, about in schema["properties"].items())


def _field(name: str, about: Mapping[str, Any], required: bool, known: Mapping[str, Any]) -> Field:
    kinds = [_resolved(kind, known) for kind in about.get("anyOf", [about])]
    some = [kind for kind in kinds if kind.get("type") != "null"]
    schema = {**some[0], **about} if len(some) == 1 else {"title": name, **about, "type": None}
    field = Field(
        name=name,
        title=str(about.get("title", name)),
        about=str(about.get("description", "")),
        kind="json",
        required=required,
        nullable=len(some) < len(kinds),
        value=about.get("default"),
        default=about.get("default"),
    )
    return _of_kind(field, _resolved(schema, known), known)


def _of_kind(field: Field, schema: Mapping[str, Any], known: Mapping[str, Any]) -> Field:
    """The field with what its type says of it."""
    if "enum" in schema or "const" in schema:
        return replace(field, kind="choice", choices=tuple(schema.get("enum", [schema.get("const")])))
    match schema.get("type"):
        case "integer" | "number" as kind:
            least, most = (schema.get(name) for name in ("minimum", "maximum"))
            field = replace(field, kind="number", whole=kind == "integer", least=least, most=most)
        case "boolean":
            field = replace(field, kind="switch")
        case "string":
            field = _of_text(field, schema.get("maxLength"))
        case "object" if "properties" in schema:
            field = replace(field, kind="box", fields=fill(_fields(schema, known), field.value or {}))
        case "array":
            item = _resolved(schema.get("items", {}), known)
            if "properties" in item and not _has_lists(item, known):
                field = replace(field, kind="list", fields=_fields(item, known), items=schema.get("maxItems"))
    return field


def _of_text(field: Field, longest: int | None) -> Field:
    if (field.name,) == TRAINING_DATA:
        return replace(field, kind="archive")
    if field.name.endswith("_url"):
        words = [word for word in MEDIA if word in field.name.split("_")]
        return replace(field, kind="media", accept=",".join(MEDIA[word] for word in words or MEDIA))
    return replace(field, kind="prose" if longest is not None and longest > SHORT else "text", longest=longest)


def _has_lists(schema: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return any(_resolved(each, known).get("type") == "array" for each in schema["properties"].values())


def _resolved(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with what it refers to."""
    if "$ref" not in schema:
        return schema
    return {**known[schema["$ref"].rpartition("/")[2]], **{name: schema[name] for name in schema if name != "$ref"}}


def _plain(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")

"""Tables of fields from a JSON schema, in the schema's order: type, default, bounds, meaning."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
LONGEST_DEFAULT = 40  # characters
MOST_VALUES = 8  # of an enumeration that are shown one by one
HEAD = ["| field | type | default | bounds | meaning |", "| --- | --- | --- | --- | --- |"]


def fields_of(schema: Schema) -> dict[str, Schema]:
    """Every field with its schema, an optional one with that of its value."""
    return {name: _plain(schema, field) for name, field in schema["properties"].items()}


def item_of(schema: Schema, field: Schema) -> Schema:
    """The schema of a list's items, with the definitions that it may refer to."""
    return {"$defs": schema.get("$defs", {}), **_plain(schema, field["items"])}


def field_table(schema: Schema, idle: frozenset[str] = frozenset()) -> list[str]:
    """One row for each field; `idle` ones are a picture's, where there is none."""
    required = schema.get("required", ())
    return [*HEAD, *(_row(name, field, name in required, name in idle) for name, field in fields_of(schema).items())]


def cell(value: Any) -> str:  # any JSON
    """A value as text that a table can hold."""
    return str(value).replace("\n", " ").replace("|", "\\|")


def shown(value: Any) -> str:  # any JSON
    """A value as JSON writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= LONGEST_DEFAULT else f'"{value[:LONGEST_DEFAULT].rstrip()} ..."'
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value}"


def _row(name: str, field: Schema, required: bool, idle: bool) -> str:
    default = "required" if required else _default(field)
    meaning = field.get("description", "")
    texts = [_type(field), default, _bounds(field), "No effect: there is no picture." if idle else meaning]
    return f"| `{name}` | " + " | ".join(cell(text) for text in texts) + " |"


def _plain(schema: Schema, field: Schema) -> Schema:
    if "$ref" in field:
        return {**schema["$defs"][field["$ref"].rpartition("/")[2]], **field}
    if "anyOf" in field:
        value = next(each for each in field["anyOf"] if each.get("type") != "null")
        return {**_plain(schema, value), **field}
    return field


def _type(field: Schema) -> str:
    return f"list of {field['items'].get('title', 'objects')}" if field["type"] == "array" else str(field["type"])


def _default(field: Schema) -> str:
    default = field.get("default")
    return "none" if default is None or default == [] else f"`{shown(default)}`"


def _bounds(field: Schema) -> str:
    return ", ".join(_each_bound(field))


def _each_bound(field: Schema) -> Iterator[str]:
    if values := field.get("enum"):
        yield ", ".join(shown(value) for value in values) if len(values) <= MOST_VALUES else _many(values)
    elif "minimum" in field or "maximum" in field:
        yield f"{shown(field.get('minimum', ''))} to {shown(field.get('maximum', ''))}"
    if "maxLength" in field:
        yield f"at most {field['maxLength']} characters"
    if "maxItems" in field:
        yield f"at most {field['maxItems']}"


def _many(values: list[Any]) -> str:
    return f"{', '.join(shown(value) for value in values[:3])} ... {shown(values[-1])}"

"""The page of one endpoint in docs/endpoints: from its declaration to a finished run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.manual.archive import fitting, naming, role_table, sizes, tree
from flows.manual.facts import ARCHIVE, PREVIEWS, Facts
from flows.manual.fields import field_table, fields_of, item_of
from flows.manual.mistakes import mistakes
from flows.manual.refusals import data_rows, field_rows, rule_rows
from models.ltx2.adapter import lora_metadata
from schemas.endpoint import LEAST_BILLED_UNITS, Endpoint
from schemas.plan import Condition, Generated

APP = "fal-ai/ltx23-trainer-v2"
MODALITIES = {"video": "picture", "audio": "sound"}
TEMPLATES = Environment(  # Markdown: nothing to escape
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
)
PARTS = (data_rows, field_rows, field_table, fitting, mistakes, naming, role_table, sizes, tree)


def page_name(name: str) -> str:
    """The file of an endpoint's page, beside the others."""
    return f"{name.replace('/', '-')}.md"


def page(endpoint: Endpoint[Any]) -> str:
    """The whole page, in Markdown."""
    facts = Facts(endpoint)
    schema = endpoint.request.model_json_schema()
    files = tuple(dict.fromkeys(facts.preview_files.values()))
    *first, last = (f"`{name}`" for name in (ARCHIVE, *files))
    steps = facts.request.number_of_steps
    return TEMPLATES.get_template("endpoint.md.jinja").render(
        {part.__name__: part for part in PARTS},
        app=APP,
        archive=ARCHIVE,
        endpoint=endpoint,
        factors=", ".join(_factors(facts)),
        facts=facts,
        least=LEAST_BILLED_UNITS,
        named=f"{', '.join(first)} and {last}",
        preview_files=files,
        price=f"{endpoint.price(steps).usd.normalize():f}",
        request=json.dumps(facts.example, indent=2),
        required=", ".join(f"`{name}`" for name in schema["required"]),
        roles=[slot.role for slot in facts.slots],
        rules=rule_rows(facts),
        sample=item_of(schema, fields_of(schema)[PREVIEWS]),
        schema=schema,
        streams=_streams,
    )


def _streams(facts: Facts) -> Iterator[str]:
    """A row for each modality that is generated, with the conditions it is generated under."""
    usual = facts.plans[""]
    for switch, plan in facts.plans.items():
        for modality, stream in plan.streams.items():
            if not switch:
                yield f"| {MODALITIES[modality]} | yes | {_conditions(stream)} |"
            elif modality not in usual.streams:
                yield f"| {MODALITIES[modality]} | with `{switch}` | {_conditions(stream)} |"


def _conditions(stream: Generated) -> str:
    """The first line of each condition's docstring, with its numbers filled in."""
    return " ".join(_condition(each) for each in stream.conditions)


def _condition(condition: Condition) -> str:
    text = (type(condition).__doc__ or "").splitlines()[0].removeprefix("Condition: ")
    text = re.sub(r"`(\w+)`", lambda found: str(getattr(condition, found[1])), text)
    return text[:1].upper() + text[1:]


def _factors(facts: Facts) -> list[str]:
    """Metadata that the LoRA's file carries as soon as one of the endpoint's own numbers is not 1."""
    keys: set[str] = set()
    for name in facts.own:
        value = facts.example[name]
        if isinstance(value, int) and not isinstance(value, bool):
            changed = facts.request.model_copy(update={name: value + 1})
            keys |= lora_metadata(facts.plan_of(changed)).keys()
    return [f"`{key}`" for key in sorted(keys)]

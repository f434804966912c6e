"""Tables over all endpoints and all settings."""

from collections.abc import Iterator

from flows.manual.facts import Facts
from flows.manual.fields import Schema, cell, fields_of, shown
from flows.manual.page import page_name
from schemas.endpoints import ENDPOINTS
from schemas.settings import Settings

UNITS = (("GiB", 2**30), ("MiB", 2**20))
OVERVIEW = """\
# Endpoints

Each is one flow, one form and one route, as the hosted endpoints of `fal-ai/ltx23-trainer-v2` are. Its page has all
that a run needs: archive, captions, a request that works, every field, common mistakes, every refusal.

{table}

A run that succeeds is billed `max(100, number_of_steps)` units at this price, the hosted endpoint's, so that you can
compare; nobody sends you an invoice.
"""
SETTINGS = """\
# Settings

From the environment, each with the prefix `LTX_FLOWS_`: `LTX_FLOWS_BASE_MODEL=/models/ltx-2.3`.

{table}

- `STORE` and `OUTPUTS` may be on S3: `s3://bucket/store` for a team. Links to files there are signed, and
  seven days are S3's longest. The API signs links to files elsewhere itself.
- `DEVICES`: each takes a sample of its own per step, so N devices are a batch of N.
- `COMPILE=auto` compiles on a GPU, for trainings of 300 steps or more. `OFFLOAD_BLOCKS=auto` sends away as few blocks
  as the device needs.
- The command line sets `ALLOW_FILE_ROOT` to `/` and turns `PROGRESS_BARS` on, unless they are set.

Beside these: `PREFECT_API_URL` (a Prefect server of your own: [a team](team.md)), `HF_TOKEN` and `HF_HOME` (the Hub:
[real weights](real-weights.md)), `AWS_` variables (S3), `CUDA_VISIBLE_DEVICES` (which GPU).
"""


def endpoint_rows(pages: str) -> list[str]:
    """Name, archive, purpose and price of each endpoint, with a link to its page below `pages`."""
    rows = ["| endpoint | archive | a LoRA that | USD per step |", "| --- | --- | --- | --- |"]
    for name, endpoint in ENDPOINTS.items():
        link = f"[`{name}`]({pages}{page_name(name)})"
        rows.append(
            f"| {link} | {_archive(Facts(endpoint))} | {_purpose(endpoint.summary)} | {endpoint.usd_per_step} |"
        )
    return rows


def navigation(pages: str) -> list[str]:
    """The entries of mkdocs.yml."""
    names = {"All endpoints": "index.md"} | {name: page_name(name) for name in ENDPOINTS}
    return [f"      - {title}: {pages}{file}" for title, file in names.items()]


def overview() -> str:
    """The page above the endpoints' pages."""
    return OVERVIEW.format(table="\n".join(endpoint_rows("")))


def settings_page() -> str:
    """Every setting with its default."""
    schema = Settings.model_json_schema()
    rows = ["| name | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields_of(schema).items():
        texts = (f"`{name.upper()}`", _default(name, field), ", ".join(_values(field)), field["description"])
        rows.append("| " + " | ".join(cell(text) for text in texts) + " |")
    return SETTINGS.format(table="\n".join(rows))


def _archive(facts: Facts) -> str:
    kind = "videos" if facts.has_picture else "sounds"
    suffixes = ", ".join(f"`{slot.suffix}`" for slot in facts.slots if slot.suffix)
    return f"{kind} {suffixes}".strip()


def _purpose(summary: str) -> str:
    """`Train a LoRA that continues a sound.` -> `continues a sound`."""
    return summary.rpartition("LoRA that ")[2].rstrip(".")


def _default(name: str, field: Schema) -> str:
    default = field.get("default")
    if default in (None, ""):
        return "" if default == "" else "none"
    if name.endswith("_bytes"):
        unit, size = next((unit, size) for unit, size in UNITS if default % size == 0)
        return f"{default // size} {unit}"
    return f"`{shown(default).strip(chr(34))}`"


def _values(field: Schema) -> Iterator[str]:
    for each in field.get("anyOf", [field]):
        if values := each.get("enum", [each["const"]] if "const" in each else None):
            yield " or ".join(f"`{value}`" for value in values)
        elif "minimum" in each:
            yield (
                f"{shown(each.get('minimum', ''))} to {shown(each['maximum'])}"
                if "maximum" in each
                else f"from {each['minimum']}"
            )
        elif "exclusiveMinimum" in each:
            yield f"above {each['exclusiveMinimum']}"
        elif each.get("type") in ("integer", "number"):
            yield "a whole number" if each["type"] == "integer" else "a number"
        elif each.get("type") == "boolean":
            yield "`true` or `false`"

"""Outcome of a request for people: files by links that this host serves, faults, and what its run shows of itself."""

import mimetypes
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flows.service.links import link
from flows.service.pages.asked import title
from flows.service.register import Entry

TITLES = {
    "lora_file": "LoRA",
    "config_file": "Settings of the training",
    "debug_dataset": "Clips as the model saw them",
}
CURVE = "loss_curve"


class Shown(NamedTuple):
    """One finished file."""

    name: str
    title: str
    url: str
    file: dict[str, Any]

    @property
    def kind(self) -> str:
        """What shows it: video, audio, image, or nothing of these."""
        return (mimetypes.guess_type(self.file["file_name"])[0] or "").partition("/")[0]


def files(entry: Entry) -> list[Shown]:
    """Files of a finished run, in the order of its result."""
    if entry.code != 200:
        return []
    found = {name: file for name, file in (entry.answer or {}).items() if isinstance(file, dict) and "url" in file}
    return [Shown(name, _title(name), _local(link(entry, file["file_name"])), file) for name, file in found.items()]


def reel(entry: Entry) -> Shown | None:
    """The previews of a finished run, if it made any."""
    return next((file for file in files(entry) if file.kind in ("video", "audio")), None)


def curve(entry: Entry) -> str | None:
    """Where the loss curve of a finished run is, if it is among its files."""
    return next((file.url for file in files(entry) if file.name == CURVE), None)


def faults(entry: Entry) -> list[tuple[str, str]]:
    """What was wrong: the field, if one is to blame, and the fault in words."""
    if entry.code in (None, 200):
        return []
    detail = (entry.answer or {}).get("detail", [])
    if isinstance(detail, str):
        return [("", detail)]
    return [(_place(entry, each.get("loc", [])[1:]), str(each["msg"])) for each in detail]


def _place(entry: Entry, loc: Sequence[str | int]) -> str:
    """A place in a request as its form names it; items are counted from one."""
    parts = [str(part + 1) if isinstance(part, int) else part.replace("_", " ") for part in loc[1:]]
    return " ".join([title(entry, str(loc[0])), *parts]) if loc else ""


def _title(name: str) -> str:
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def _local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"

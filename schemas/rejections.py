"""Rejections of a request or its data, in the words of an HTTP 422: the user mends them, and they cost nothing.

The tree of all errors is drawn in errors.py.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import LtxFlowsError

Loc = tuple[str | int, ...]

MOST_FAULTS, LONGEST_INPUT, LONGEST_NAME = 100, 1000, 200  # that are told together; characters of each

TRAINING_DATA: Loc = ("training_data_url",)


class Detail(BaseModel):
    """One fault in the shape of an HTTP 422 body (docs/http-contract.md, section 2)."""

    model_config = ConfigDict(frozen=True)

    loc: Loc
    msg: str
    type: str
    input: Any = None
    ctx: dict[str, Any] = {}


def bounded(details: Sequence[Detail]) -> list[Detail]:
    """The first faults, each with as much of the input as shows which value is meant."""
    first = [_short(detail) for detail in details[:MOST_FAULTS]]
    if (more := len(details) - len(first)) > 0:
        first.append(Detail(loc=details[0].loc[:1], msg=f"and {more} more faults", type="too_many_faults"))
    return first


def _short(detail: Detail) -> Detail:
    loc = tuple(part[:LONGEST_NAME] if isinstance(part, str) else part for part in detail.loc)
    return detail.model_copy(update={"loc": loc, "input": _shown(detail.input)})


def _shown(value: Any) -> Any:  # any JSON
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= LONGEST_INPUT else f"{text[:LONGEST_INPUT]}..."


class InputRejected(LtxFlowsError):
    """A request or its data that is wrong. HTTP 422, exit 2, never retried, billed 0."""

    def details(self) -> list[Detail]:
        raise NotImplementedError


class RequestRejected(InputRejected):
    """Wrong fields of a request; every one of them is listed."""

    def __init__(self, faults: Sequence[Detail]) -> None:
        super().__init__(faults)
        self.faults = list(faults)

    @classmethod
    def of(cls, error: ValidationError) -> "RequestRejected":
        return cls([_detail(fault) for fault in error.errors(include_url=False)])

    def details(self) -> list[Detail]:
        return self.faults

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(str(part) for part in fault.loc[1:])}: {fault.msg}" for fault in self.faults)


class Rejections(InputRejected):
    """Several faults found together, so that the user mends them in one go."""

    def __init__(self, faults: Sequence[InputRejected]) -> None:
        super().__init__(faults)
        self.faults = list(faults)

    def details(self) -> list[Detail]:
        return [detail for fault in self.faults for detail in fault.details()]

    def __str__(self) -> str:
        return "; ".join(str(fault) for fault in self.faults)


@dataclass(eq=False)
class DataRejected(InputRejected):
    """One fault of the training data or of a validation sample.

    A subclass declares its facts as fields, `message` with their names, and `type`, the key that clients switch on.
    `where` is the request field that brought the file in.
    """

    type: ClassVar[str]
    message: ClassVar[str]

    file: str
    where: Loc = field(default=TRAINING_DATA, kw_only=True)

    def facts(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def details(self) -> list[Detail]:
        ctx = {name: value for name, value in self.facts().items() if name != "where"}
        kind = self.type.format(**ctx)
        return [Detail(loc=("body", *self.where), msg=str(self), type=kind, input=self.file, ctx=ctx)]

    def __str__(self) -> str:
        facts = {name: value for name, value in self.facts().items() if name != "where"}
        return self.message.format(**{n: ", ".join(v) if isinstance(v, tuple) else v for n, v in facts.items()})

    def __reduce__(self) -> tuple[Any, ...]:  # errors are pickled between processes
        return partial(type(self), **self.facts()), ()


@dataclass(eq=False)
class DownloadRejected(DataRejected):
    """A URL that cannot be fetched or must not be."""

    type = "file_download_error"
    message = "{file}: {reason}"
    reason: str


@dataclass(eq=False)
class ArchiveRejected(DataRejected):
    """Not a zip archive, or one that is broken or unsafe."""

    type = "invalid_archive"
    message = "{file}: {reason}"
    reason: str
    supported_extensions: tuple[str, ...] = (".zip",)


@dataclass(eq=False)
class UnsupportedFile(DataRejected):
    """A media file of a kind that this endpoint does not take; `kind` is the modality it does take."""

    type = "unsupported_{kind}_format"
    message = "{file}: {reason}; supported: {supported_formats}"
    kind: str
    supported_formats: tuple[str, ...]
    reason: str


@dataclass(eq=False)
class DuplicateName(DataRejected):
    """Two files of an archive that would be the same sample."""

    type = "invalid_archive"
    message = "{file} and {other}: names must be unique across the archive; rename one of them"
    other: str


@dataclass(eq=False)
class MissingRole(DataRejected):
    """A sample that lacks one of the files its layout asks for."""

    type = "invalid_archive"
    message = "{file}: its {role} is missing; add {wanted}"
    role: str
    wanted: str


@dataclass(eq=False)
class NothingFound(DataRejected):
    """An archive that holds no sample at all."""

    type = "archive_file_count_below_minimum"
    message = "{file}: no sample found; wanted files {names}of type {supported_extensions}"
    supported_extensions: tuple[str, ...]
    names: str = ""
    min_count: int = 1
    provided_count: int = 0


@dataclass(eq=False)
class UnreadableClip(DataRejected):
    """A media file that does not decode, or not to its end."""

    type = "unsupported_{kind}_format"
    message = "{file}: cannot be decoded as {kind} ({reason}); export it again"
    kind: str
    reason: str


@dataclass(eq=False)
class SilentClip(DataRejected):
    """A clip that must carry sound has no audio track."""

    type = "feature_not_supported"
    message = "{file}: the {role} clip has no audio track; {remedy}"
    role: str
    remedy: str = "add one"


@dataclass(eq=False)
class NothingLeft(DataRejected):
    """A data set whose samples were all skipped, each for its own reason."""

    type = "{kind}_duration_too_short"
    message = "All training {plural} are too short to be trainable: {skipped}"
    kind: str
    plural: str
    skipped: tuple[str, ...]  # every sample with its reason
    reasons: tuple[str, ...]  # the first different ones, each with the samples that it is of

    def __str__(self) -> str:
        return self.message.format(plural=self.plural, skipped="; ".join(self.reasons))


@dataclass(eq=False)
class ClipTooShort(DataRejected):
    """A validation clip shorter than the part it must give."""

    type = "{kind}_duration_too_short"
    message = "{file}: have {have}, need {need}; {remedy}"
    kind: str
    have: str
    need: str
    remedy: str


# pydantic's names for faults -> the names that clients of the hosted endpoints switch on
_TYPES = {"literal_error": "one_of", "too_long": "sequence_too_long", "too_short": "sequence_too_short"}


def _detail(fault: Any) -> Detail:
    ctx = dict(fault.get("ctx", {}))
    ctx.pop("fault", None)  # repeats the message
    loc = (ctx.pop("field"),) if "field" in ctx else fault["loc"]  # a rule between fields names the one to change
    return Detail(
        loc=("body", *loc),
        msg=fault["msg"],
        type=_TYPES.get(fault["type"], fault["type"]),
        input=ctx.pop("value", fault.get("input")),
        ctx=ctx,
    )

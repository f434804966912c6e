"""The dataset report, with the outcome of every file, and the answer of `plan`."""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field, field_serializer

from schemas.media import Bucket, Frozen, Role, Skipped
from schemas.result import Samples


class PlannedSample(Frozen):
    """A sample that would be trained on: its caption as written, its files by role, as named in the archive."""

    name: str
    caption: str
    files: dict[Role, str]


class AudioWindow(Frozen):
    """The window of a clip's sound that is trained on."""

    start_seconds: float  # on the file's own clock
    seconds: float
    stretch: float  # 2.0: twice as long
    gain: float | None = None  # None in the answer of `plan`, which decodes nothing


class VideoWindow(Frozen):
    """The frames of a clip that are trained on."""

    frames: int
    fps: float
    start_seconds: float


class FileOutcome(Frozen):
    """Outcome of one file of the archive; a clip that was split into scenes has one outcome for each."""

    file: str
    fate: Literal["kept", "caption", "skipped", "ignored"]
    role: Role | None = None
    sample: str | None = None
    reason: str = ""
    video: VideoWindow | None = None
    audio: AudioWindow | None = None
    warnings: list[str] = Field(default_factory=list)


class Remark(Frozen):
    """A warning of one sample. Those of one kind share a line of the report; the rows of their files keep each."""

    sample: str
    text: str
    kind: str = ""  # left empty: the text itself
    role: Role | None = None  # of the file it is about; None: of all

    def __str__(self) -> str:
        return f"{self.sample}: {self.text}"


class Ignored(Frozen):
    """A file of the archive that no sample uses, and why; one that was meant as a caption has the wrong name."""

    file: str
    reason: str
    meant_as_caption: bool = False


class Suggestion(Frozen):
    """A change of one parameter of the request, and the samples that it would win back."""

    parameter: str
    value: int | float | bool
    keeps: int
    of: int

    def __str__(self) -> str:
        value = str(self.value).lower() if isinstance(self.value, bool) else f"{self.value:g}"
        return f"{self.parameter} {value} keeps {self.keeps} of {self.of}"


class DatasetReport(BaseModel):
    """Every sample of the archive with its fate; nothing is dropped silently."""

    kept: int
    skipped: list[Skipped] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    ignored: list[str] = Field(default_factory=list)
    samples: list[PlannedSample]
    bucket: Bucket
    wins: list[Suggestion] = Field(default_factory=list)
    files: list[FileOutcome] = Field(default_factory=list)

    @property
    def counts(self) -> Samples:
        """How many samples were kept, skipped, and kept with a warning."""
        warned = {file.sample for file in self.files if file.fate == "kept" and file.warnings}
        return Samples(kept=self.kept, skipped=len(self.skipped), warned=len(warned))


class PlanAnswer(DatasetReport):
    """What `ltx-flows plan` prints: the report, as far as probes tell it, and the price."""

    billable_units: int
    usd: Decimal

    @field_serializer("usd")
    def _plain(self, amount: Decimal) -> str:
        return f"{amount.normalize():f}"

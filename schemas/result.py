"""Results: the files of a run, its bill, the dataset report, and the answer of `plan`."""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, Field, field_serializer

from schemas.media import Bucket, Frozen, Role, Skipped


class File(Frozen):
    """A finished file, in the shape that clients of the hosted endpoints read."""

    url: str
    content_type: str
    file_name: str
    file_size: int


class Billing(Frozen):
    """What a successful run costs; decimals are exact."""

    billable_units: int
    usd_per_step: Decimal
    usd: Decimal

    @classmethod
    def of(cls, units: int, usd_per_step: Decimal) -> "Billing":
        return cls(billable_units=units, usd_per_step=usd_per_step, usd=units * usd_per_step)

    @field_serializer("usd_per_step", "usd")
    def _plain(self, amount: Decimal) -> str:
        return f"{amount.normalize():f}"


class TrainingResult(BaseModel):
    """Outputs of a run, named as in the seeds, plus our report and the bill."""

    lora_file: File
    config_file: File
    video: File | None = None
    audio: File | None = None
    debug_dataset: File | None = None
    dataset_report: File
    billing: Billing


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
    gain: float


class VideoWindow(Frozen):
    """The frames of a clip that are trained on."""

    frames: int
    fps: float
    start_seconds: float


class FileOutcome(Frozen):
    """What became of one file of the archive; a clip that was split into scenes has one of these for each."""

    file: str
    fate: Literal["kept", "caption", "skipped", "ignored"]
    role: Role | None = None
    sample: str | None = None
    reason: str = ""
    video: VideoWindow | None = None
    audio: AudioWindow | None = None
    warnings: list[str] = Field(default_factory=list)


class Suggestion(Frozen):
    """What changing one parameter of the request would win back."""

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


class PlanAnswer(BaseModel):
    """What `ltx-flows plan` prints."""

    kept: int
    skipped: list[Skipped]
    warnings: list[str]
    samples: list[PlannedSample]
    bucket: Bucket
    billable_units: int
    usd: Decimal

    @field_serializer("usd")
    def _plain(self, amount: Decimal) -> str:
        return f"{amount.normalize():f}"

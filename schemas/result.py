"""Results: the files of a run, and its bill."""

from decimal import Decimal

from pydantic import BaseModel, field_serializer

from schemas.media import Frozen


class File(Frozen):
    """A finished file, in the shape that clients of the hosted endpoints read."""

    url: str
    content_type: str
    file_name: str
    file_size: int


class Billing(Frozen):
    """The cost of a successful run; decimals are exact."""

    billable_units: int
    usd_per_step: Decimal
    usd: Decimal

    @classmethod
    def of(cls, units: int, usd_per_step: Decimal) -> "Billing":
        return cls(billable_units=units, usd_per_step=usd_per_step, usd=units * usd_per_step)

    @field_serializer("usd_per_step", "usd")
    def _plain(self, amount: Decimal) -> str:
        return f"{amount.normalize():f}"


class Samples(Frozen):
    """How many samples were trained on, left out, and trained on with a warning; the report says why."""

    kept: int
    skipped: int
    warned: int


class TrainingResult(BaseModel):
    """Outputs of a run, named as in the seeds, plus our report and the bill.

    The fields with defaults below the bill are younger than results that are still read.
    """

    lora_file: File
    config_file: File
    video: File | None = None
    audio: File | None = None
    debug_dataset: File | None = None
    dataset_report: File
    billing: Billing
    loss_curve: File | None = None
    samples: Samples | None = None
    warnings: tuple[str, ...] = ()

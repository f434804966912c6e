"""One endpoint: dataset layout, request, plan, price. Everything else is derived from these."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar, get_args

from pydantic import ValidationError

from schemas.media import Bucket, Frozen, Modality, Role
from schemas.plan import Plan
from schemas.rejections import RequestRejected
from schemas.request import TrainRequest, ValidationSample
from schemas.result import Billing

AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".aac", ".m4a")
VIDEO = (".mp4", ".mov", ".avi", ".mkv")
VIDEO_WEBM = (".mp4", ".mov", ".webm", ".mkv", ".avi")
IMAGE = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class Slot(Frozen):
    """One file of a sample: the role it plays, its name's suffix, and the extensions it may have."""

    role: Role
    suffix: str
    extensions: tuple[str, ...]


class Layout(Frozen):
    """Which files an archive has for each sample."""

    modality: Modality  # that is asked for; names faults and reports
    slots: tuple[Slot, ...]
    folders_distinguish: bool = False  # else names are unique across the archive


PLAIN_AUDIO = Layout(modality="audio", slots=(Slot(role="target", suffix="", extensions=AUDIO),))
PLAIN_VIDEOS = Layout(
    modality="video", slots=(Slot(role="target", suffix="", extensions=VIDEO),), folders_distinguish=True
)
AUDIO_PAIRS = Layout(
    modality="audio",
    slots=(
        Slot(role="reference", suffix="_start", extensions=AUDIO),
        Slot(role="target", suffix="_end", extensions=AUDIO),
    ),
)
VIDEO_PAIRS = Layout(
    modality="video",
    slots=(
        Slot(role="reference", suffix="_start", extensions=VIDEO_WEBM),
        Slot(role="target", suffix="_end", extensions=VIDEO_WEBM),
    ),
)
MASKED_PAIRS = Layout(
    modality="video",
    slots=(
        Slot(role="reference", suffix="_start", extensions=VIDEO_WEBM),
        Slot(role="target", suffix="_end", extensions=VIDEO_WEBM),
        Slot(role="mask", suffix="_mask", extensions=IMAGE + VIDEO_WEBM),
    ),
)

LEAST_BILLED_UNITS = 100

Request = TypeVar("Request", bound=TrainRequest)


@dataclass(frozen=True)
class Endpoint(Generic[Request]):
    """One declaration; `path` as the hosted endpoint has it."""

    path: str
    request: type[Request]
    layout: Layout
    plan: Callable[[Request, Bucket], Plan]
    usd_per_step: Decimal

    @property
    def name(self) -> str:
        return self.path.removeprefix("/")

    def read(self, body: Any) -> Request:
        """The request of a JSON body.

        Raises:
            RequestRejected: with every fault of the body.
        """
        try:
            return self.request.model_validate(body)
        except ValidationError as error:
            raise RequestRejected.of(error) from error

    @property
    def validation_sample(self) -> type[ValidationSample]:
        """The kind of validation samples that the request takes."""
        kind: type[ValidationSample] = get_args(self.request.model_fields["validation"].annotation)[0]
        return kind

    def price(self, number_of_steps: int) -> Billing:
        return Billing.of(max(LEAST_BILLED_UNITS, number_of_steps), self.usd_per_step)

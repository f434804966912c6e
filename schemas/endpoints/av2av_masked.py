"""/av2av-masked: regenerate the masked region of a video, and its sound, after a reference."""

from decimal import Decimal

from pydantic import Field

from schemas.endpoint import Endpoint
from schemas.endpoints.av2av import ReferenceClip, ReferenceTrainRequest
from schemas.layout import MASKED_PAIRS
from schemas.media import Bucket, Modality, Role
from schemas.plan import Mask, Plan, Reference, generate
from schemas.request import Url


class MaskedClip(ReferenceClip):
    """A clip of which the preview regenerates the white region."""

    video_url: Url = Field(title="Video", description="The source; its region under black is kept.")
    mask_url: Url = Field(title="Mask", description="Image or video: WHITE = regenerate, BLACK = keep.")

    def media(self) -> dict[tuple[Role, Modality], str]:
        return {("target", "video"): "video_url", ("mask", "video"): "mask_url", **super().media()}


class MaskedVideoToVideo(ReferenceTrainRequest):
    """Train a LoRA that regenerates the white region of a video, and its sound, after a reference clip."""

    validation: list[MaskedClip] = Field(
        [], max_length=2, title="Previews", description="Up to two clips to edit, to look at during training."
    )


def plan(request: MaskedVideoToVideo, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    return Plan(video=generate(Mask(), Reference()), audio=generate(Reference()))


ABOUT = """
The model sees a reference clip, and the target outside of a mask; it learns to make the masked region, and all of the
sound, after the reference: a garment changed, an object put in, a face spoken anew. What lies outside of the mask is
given clean, so it is neither learned nor changed.

Target and reference should run in step, and the mask should cover in every frame what differs between them: what
differs outside of it cannot be learned.
"""

AV2AV_MASKED = Endpoint(
    "/av2av-masked",
    MaskedVideoToVideo,
    MASKED_PAIRS,
    plan,
    usd_per_step=Decimal("0.0068"),
    summary="Train a LoRA that regenerates the masked region of a video, and its sound.",
    about=ABOUT,
)

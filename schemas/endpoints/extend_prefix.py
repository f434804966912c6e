"""/extend-prefix: continue a video forward in time, optionally with its sound."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from schemas.endpoint import Endpoint
from schemas.layout import PLAIN_VIDEOS
from schemas.media import Bucket, Modality, Role
from schemas.plan import Plan, Prefix, generate
from schemas.request import Url, ValidationSample, VideoTrainRequest, opening_steps, refuse
from schemas.units import FRAMES_PER_STEP, snap_frames, video_steps


def _whole_steps(frames: int) -> int:
    if frames % FRAMES_PER_STEP != 1:
        below = snap_frames(frames)
        raise refuse(
            "multiple_of", f"must be 8k+1, such as {below} or {below + FRAMES_PER_STEP}", multiple_of=8, offset=1
        )
    return frames


PrefixFrames = Annotated[
    int, Field(ge=9, le=121, json_schema_extra={"enum": list(range(9, 122, 8))}), AfterValidator(_whole_steps)
]


class Opening(ValidationSample):
    """A clip that the preview continues."""

    video_url: Url = Field(title="Video", description="Its first conditioning_frames frames are continued.")

    def media(self) -> dict[tuple[Role, Modality], str]:
        return {("target", "video"): "video_url", ("target", "audio"): "video_url"}


class ExtendPrefix(VideoTrainRequest):
    """Train a LoRA that continues a video forward in time from its opening frames."""

    split_input_into_scenes: bool = Field(
        True, title="Split into scenes", description="Split clips above the threshold into scenes before training."
    )
    conditioning_frames: PrefixFrames = Field(
        9, title="Prefix frames", description="Opening frames given clean: 9, 17, 25 ... 121, fewer than the clip has."
    )
    with_audio: bool = Field(
        False, title="With audio", description="Continue the sound, too; every clip must then carry an audio track."
    )
    validation: list[Opening] = Field(
        [], max_length=2, title="Previews", description="Up to two clips to continue, to look at during training."
    )

    @field_validator("conditioning_frames")
    @classmethod
    def _leaves_a_continuation(cls, prefix: int, info: ValidationInfo) -> int:
        if "number_of_frames" in info.data:
            _shorter_than(prefix, "number_of_frames", info.data["number_of_frames"])
        return prefix

    @field_validator("validation")
    @classmethod
    def _leaves_a_preview(cls, validation: list[Opening], info: ValidationInfo) -> list[Opening]:
        if validation and {"conditioning_frames", "validation_number_of_frames"} <= info.data.keys():
            _shorter_than(
                info.data["conditioning_frames"],
                "validation_number_of_frames",
                info.data["validation_number_of_frames"],
            )
        return validation


def _shorter_than(prefix: int, clip_field: str, clip_frames: int) -> None:
    snapped = snap_frames(clip_frames)
    if prefix >= snapped:
        shown = f"{clip_frames}" if clip_frames == snapped else f"{clip_frames}, snapped down to {snapped}"
        raise refuse(
            "less_than",
            f"{prefix} frames leave nothing to generate: {clip_field} is {shown}; "
            f"lower conditioning_frames below {snapped} or raise {clip_field}",
            field="conditioning_frames",
            value=prefix,
            lt=snapped,
        )


def plan(request: ExtendPrefix, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    assert bucket.picture is not None
    opening_seconds = request.conditioning_frames / bucket.picture.fps  # clips and previews have rates of their own
    given = min(opening_steps(opening_seconds), bucket.audio_steps - 1)  # at 200 fps and more, rounding could give all
    sound = generate(Prefix(steps=max(1, given))) if request.with_audio else None
    return Plan(video=generate(Prefix(steps=video_steps(request.conditioning_frames))), audio=sound)


EXTEND_PREFIX = Endpoint(
    "/extend-prefix",
    ExtendPrefix,
    PLAIN_VIDEOS,
    plan,
    usd_per_step=Decimal("0.0062"),
    summary="Train a LoRA that continues a video forward in time, optionally with its sound.",
)

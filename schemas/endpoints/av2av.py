"""/ic-lora/av2av: turn one video and its sound into another."""

from decimal import Decimal

from pydantic import Field, ValidationInfo, field_validator

from schemas.endpoint import Endpoint
from schemas.layout import VIDEO_PAIRS
from schemas.media import Bucket, FitOptions, Modality, Role
from schemas.plan import Plan, Reference, generate
from schemas.request import SIZES, Url, ValidationSample, VideoTrainRequest, refuse
from schemas.units import FRAMES_PER_STEP, LATENT_CELL, snap_frames

FACTORS = range(1, 9)


class ReferenceClip(ValidationSample):
    """A clip that the preview transforms."""

    reference_video_url: Url = Field(title="Reference video", description="The clip to transform.")
    reference_audio_url: Url | None = Field(
        None, title="Reference audio", description="Its sound; left empty, the reference video's own track."
    )

    def media(self) -> dict[tuple[Role, Modality], str]:
        sound = "reference_audio_url" if self.reference_audio_url else "reference_video_url"
        return {("reference", "video"): "reference_video_url", ("reference", "audio"): sound}


class ReferenceTrainRequest(VideoTrainRequest):
    """What endpoints accept whose validation samples bring a reference clip."""

    @property
    def preview_fitting(self) -> FitOptions:
        return self.fitting.model_copy(update={"sound_remedy": "add one, or give a reference_audio_url with sound"})


class VideoToVideo(ReferenceTrainRequest):
    """Train an in-context LoRA that turns a reference clip, picture and sound, into a target clip."""

    reference_downscale_factor: int = Field(
        1,
        ge=1,
        le=8,
        title="Reference downscale",
        description="Makes the reference picture so many times smaller along each side, "
        "1 to 8; width and height of clips and previews divided by it must be multiples of 32.",
    )
    reference_temporal_scale_factor: int = Field(
        1,
        ge=1,
        le=8,
        title="Reference slow-down",
        description="Keeps every so many-th frame of the reference, 1 to "
        "8; the frames of clips and previews must then still be 8k+1.",
    )
    validation: list[ReferenceClip] = Field(
        [], max_length=2, title="Previews", description="Up to two clips to transform, to look at during training."
    )

    @field_validator("reference_downscale_factor")
    @classmethod
    def _cells_stay_whole(cls, factor: int, info: ValidationInfo) -> int:
        pairs = (("resolution", "aspect_ratio"), ("validation_resolution", "validation_aspect_ratio"))
        known = [pair for pair in pairs if all(name in info.data for name in pair)]
        sizes = {pair[0]: SIZES[info.data[pair[0]]][info.data[pair[1]]] for pair in known}
        fitting = [f for f in FACTORS if all(side % (f * LATENT_CELL) == 0 for size in sizes.values() for side in size)]
        if factor not in fitting:
            wrong = {name: size for name, size in sizes.items() if any(side % (factor * LATENT_CELL) for side in size)}
            shown = " and ".join(f"{name} {width}x{height}" for name, (width, height) in wrong.items())
            raise refuse(
                "multiple_of",
                f"{shown} divided by {factor} must have sides that are multiples of {LATENT_CELL}; "
                f"factors that fit: {', '.join(map(str, fitting))}",
                multiple_of=LATENT_CELL,
                fitting=fitting,
            )
        return factor

    @field_validator("reference_temporal_scale_factor")
    @classmethod
    def _steps_stay_whole(cls, factor: int, info: ValidationInfo) -> int:
        names = ("number_of_frames", "validation_number_of_frames")
        frames = {name: snap_frames(info.data[name]) for name in names if name in info.data}
        step = factor * FRAMES_PER_STEP
        if wrong := {name: count for name, count in frames.items() if (count - 1) % step}:
            fitting = [count for count in range(9, 122) if (count - 1) % step == 0]
            shown = " and ".join(f"{name} {count}" for name, count in wrong.items())
            raise refuse(
                "multiple_of",
                f"{shown}: keeping 1 of {factor} frames must leave 8k+1; frame counts that work with factor {factor}: "
                f"{', '.join(map(str, fitting))}",
                multiple_of=FRAMES_PER_STEP,
                fitting=fitting,
            )
        return factor


def plan(request: VideoToVideo, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    scaled = Reference(
        downscale=request.reference_downscale_factor, temporal_scale=request.reference_temporal_scale_factor
    )
    return Plan(video=generate(scaled), audio=generate(Reference()))


ABOUT = """
The model sees a whole reference clip, picture and sound, and learns to make its counterpart: a scene in another style,
a line drawing as a film, a rehearsal as a finished take. What both clips of a pair have in common is what it learns to
keep, what differs between them is what it learns to do; so every pair should differ in the same way, and run in step.

A reference may be smaller than the target (`reference_downscale_factor`) and hold fewer frames
(`reference_temporal_scale_factor`): less memory and time, less detail. Both factors are in the LoRA's metadata.
"""

AV2AV = Endpoint(
    "/ic-lora/av2av",
    VideoToVideo,
    VIDEO_PAIRS,
    plan,
    usd_per_step=Decimal("0.0068"),
    summary="Train an in-context LoRA that turns one clip, picture and sound, into another.",
    about=ABOUT,
    flow="av2av",
)

"""/extend-prefix: continue a video forward in time, optionally with its sound."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from schemas.endpoint import Endpoint
from schemas.layout import PLAIN_VIDEOS
from schemas.media import FRAME_COUNTS, Bucket, FitOptions, Modality, Role
from schemas.plan import Plan, Prefix, generate
from schemas.request import Url, ValidationSample, VideoTrainRequest, opening_steps, refuse
from schemas.units import FRAMES_PER_STEP, snap_frames, video_steps
from schemas.wording import either


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
        True,
        title="Split into scenes",
        description="Split clips above the threshold at their cuts; each scene is a clip of its own.",
    )
    conditioning_frames: PrefixFrames = Field(
        9,
        title="Prefix frames",
        description="Opening frames given clean: 9, 17, 25 ... 121; fewer than number_of_frames.",
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
            _shorter_than(prefix, "number_of_frames", info.data)
        return prefix

    @field_validator("validation")
    @classmethod
    def _leaves_a_preview(cls, validation: list[Opening], info: ValidationInfo) -> list[Opening]:
        if validation and {"conditioning_frames", "validation_number_of_frames"} <= info.data.keys():
            _shorter_than(info.data["conditioning_frames"], "validation_number_of_frames", info.data)
        return validation

    @property
    def fitting(self) -> FitOptions:
        remedy = "add one or turn off with_audio"
        return super().fitting.model_copy(update={"sound_remedy": remedy})

    @property
    def without_effect(self) -> dict[str, str]:
        found = super().without_effect
        if not self.with_audio:
            found |= dict.fromkeys(("audio_normalize", "audio_preserve_pitch"), "sound is not used without with_audio")
        return found


def _shorter_than(prefix: int, clip_field: str, data: Mapping[str, int]) -> None:
    frames = data[clip_field]
    snapped = snap_frames(frames)
    if prefix >= snapped:
        shown = f"{frames}" if frames == snapped else f"{frames}, snapped down to {snapped}"
        raise refuse(
            "less_than",
            f"{prefix} frames leave nothing to generate: {clip_field} is {shown}; {_remedy(prefix, clip_field, data)}",
            field="conditioning_frames",
            value=prefix,
            lt=snapped,
        )


def _remedy(prefix: int, clip_field: str, data: Mapping[str, int]) -> str:
    """Values within the bounds that leave something to generate; previews may need a change of their own."""
    lower, higher = snap_frames(data[clip_field]) - FRAMES_PER_STEP, prefix + FRAMES_PER_STEP
    ways = [f"lower conditioning_frames to {lower}"] if lower >= FRAME_COUNTS[0] else []
    ways += [f"raise {clip_field} to {higher}"] if higher <= FRAME_COUNTS[-1] else []
    both = f"lower conditioning_frames to {FRAME_COUNTS[0]} and raise {clip_field} to {FRAME_COUNTS[1]}"
    preview = snap_frames(data.get("validation_number_of_frames", FRAME_COUNTS[-1]))
    also = f"; for validation samples validation_number_of_frames, now {preview}, must exceed the prefix, too"
    return (either(ways) or both) + (also if preview <= prefix and clip_field == "number_of_frames" else "")


def plan(request: ExtendPrefix, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    assert bucket.picture is not None
    opening_seconds = request.conditioning_frames / bucket.picture.fps  # clips and previews have rates of their own
    given = min(opening_steps(opening_seconds), bucket.audio_steps - 1)  # at 200 fps and more, rounding could give all
    sound = generate(Prefix(steps=max(1, given))) if request.with_audio else None
    return Plan(video=generate(Prefix(steps=video_steps(request.conditioning_frames))), audio=sound)


ABOUT = """
The opening frames of every clip are given clean; the model learns what comes after them: how a movement goes on, how a
character behaves, how the light changes. Afterwards you give an opening and a prompt, and the LoRA continues it in the
manner of your clips. A longer opening tells the model more about the movement and leaves it less to learn.

With `with_audio` the sound is continued, too, from the same opening, in time with the picture. Without it, sound in the
clips is ignored and the previews are silent.
"""

EXTEND_PREFIX = Endpoint(
    "/extend-prefix",
    ExtendPrefix,
    PLAIN_VIDEOS,
    plan,
    usd_per_step=Decimal("0.0062"),
    summary="Train a LoRA that continues a video forward in time, optionally with its sound.",
    about=ABOUT,
)

"""Request fields that endpoints share, their bounds and the rules between them.

The forms, the OpenAPI document and docs/endpoints are made from these titles and descriptions. A rule between
fields is a validator on the later of them, so that one wrong field does not hide another.
Source: the API pages of fal-ai/ltx23-trainer-v2, where every field is described.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from schemas.form import (
    FIRST,
    FOLDED,
    LAST,
    PREVIEW_FIELDS,
    SOUND_FIELDS,
    VIDEO_FIELDS,
    VIDEO_FOLDED,
    VIDEO_PREVIEW_FIELDS,
    Form,
    OrderedForm,
)
from schemas.media import FRAME_COUNTS, Bucket, FitOptions, Modality, Picture, Role
from schemas.plan import Track
from schemas.rejections import Loc
from schemas.units import audio_steps, snap_frames

Rank = Literal[8, 16, 32, 64, 128]
Resolution = Literal["low", "medium", "high"]
AspectRatio = Literal["16:9", "1:1", "9:16"]
FrameRate = Annotated[int, Field(ge=8, le=60)]
Frames = Annotated[int, Field(ge=9, le=121)]

LONGEST_URL = 4096  # but for `data:`, which holds the file itself
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but for line ends and tabs

SIZES: dict[str, dict[str, tuple[int, int]]] = {  # (width, height)
    "low": {"16:9": (512, 288), "1:1": (512, 512), "9:16": (288, 512)},
    "medium": {"16:9": (768, 448), "1:1": (768, 768), "9:16": (448, 768)},
    "high": {"16:9": (960, 544), "1:1": (960, 960), "9:16": (544, 960)},
}

NEVER_SPLIT = {
    "split_input_into_scenes": "scenes are not split in this mode; provide pre-split clips",
    "split_input_duration_threshold": "no clip is split in this mode",
}

NEGATIVE_PROMPT = (
    "low quality, blurry, out of focus, grainy, compression artifacts, flicker, jitter, ghosting, frozen picture, "
    "distorted anatomy, warped faces, extra limbs, washed-out colours, overexposed, watermark, caption text, logo, "
    "muffled sound, hiss, clipping, crackle, echo, sound out of sync"
)


def refuse(kind: LiteralString, message: str, **context: Any) -> PydanticCustomError:
    """A fault whose machine key is `kind`; raise it inside a validator.

    A rule between fields names the one to change as `field` (and its value as `value`): the fault is shown there,
    wherever the validator sits.
    """
    return PydanticCustomError(kind, "{fault}", {"fault": message, **context})


def _no_controls(text: str) -> str:
    """The text, unless it holds a control character: databases refuse some of them, terminals obey others."""
    if found := CONTROLS.search(text):
        raise refuse(
            "string_not_text", f"has a control character ({found[0]!r}) at position {found.start()}; remove it"
        )
    return text


def _short_enough(url: str) -> str:
    if len(url) > LONGEST_URL and url[:5].lower() != "data:":
        raise refuse(
            "string_too_long", f"has {len(url)} characters; URLs may have {LONGEST_URL}; upload the file first"
        )
    return url


Url = Annotated[str, Field(min_length=1), AfterValidator(_no_controls), AfterValidator(_short_enough)]
Phrase = Annotated[str, Field(max_length=1000), AfterValidator(_no_controls)]
Prompt = Annotated[str, Field(max_length=10_000), AfterValidator(_no_controls)]


class ValidationSample(Form):
    """What one preview is generated from."""

    prompt: Prompt = Field(
        title="Prompt", description="The text prompt of this preview. The trigger phrase is not added."
    )

    def media(self) -> dict[tuple[Role, Modality], str]:
        """The request field that brings each track in."""
        raise NotImplementedError

    def given(self, tracks: tuple[Track, ...], where: Loc) -> tuple[tuple[Track, str, Loc], ...]:
        """The URL of each track, and where in the request it stands."""
        fields = [(track, self.media()[track.role, track.modality]) for track in tracks]
        return tuple((track, getattr(self, field), (*where, field)) for track, field in fields)


class TrainRequest(OrderedForm):
    """What every endpoint accepts."""

    form_order: ClassVar[tuple[str, ...]] = (*FIRST, *SOUND_FIELDS, *PREVIEW_FIELDS, *LAST)
    folded: ClassVar[tuple[str, ...]] = FOLDED

    training_data_url: Url = Field(
        title="Training data", description=".zip of clips and captions: an https://, s3:// or upload:// URL."
    )
    trigger_phrase: Phrase = Field(
        "", title="Trigger phrase", description="Put in front of every caption; write it in your prompts, too."
    )
    rank: Rank = Field(
        32, title="Rank", description="Width of the LoRA: 8, 16, 32, 64 or 128. File and memory grow with it."
    )
    number_of_steps: int = Field(
        2000,
        ge=100,
        le=20000,
        title="Number of steps",
        description="Optimisation steps, 100 to 20000, one clip each. Billed per step.",
    )
    learning_rate: float = Field(
        0.0002,
        ge=1e-6,
        le=1,
        title="Learning rate",
        description="Size of the first step, 0.000001 to 1; it falls to a tenth. Lower it if a training diverges.",
    )
    audio_normalize: bool = Field(
        True, title="Normalise audio", description="Bring the sound of every clip to the same peak, -1 dBFS."
    )
    audio_preserve_pitch: bool = Field(
        True, title="Preserve pitch", description="Keep the pitch of clips that are slowed down; off: like a tape."
    )
    validation_negative_prompt: Prompt = Field(
        NEGATIVE_PROMPT, title="Negative prompt", description="What previews, not the training, are guided away from."
    )
    validation_frame_rate: FrameRate = Field(
        24,
        title="Preview frame rate",
        description="Frames per second of previews, 8 to 60; sound alone lasts at most 121.",
    )
    stg_scale: float = Field(
        1.0, ge=0, le=3, title="STG scale", description="Spatio-temporal guidance of previews, 0 (off) to 3."
    )
    debug_dataset: bool = Field(
        False, title="Debug dataset", description="Also return a .zip of the clips as the model saw them."
    )

    @property
    def bucket(self) -> Bucket:
        raise NotImplementedError

    @property
    def preview_bucket(self) -> Bucket:
        raise NotImplementedError

    @property
    def fitting(self) -> FitOptions:
        raise NotImplementedError

    @property
    def preview_fitting(self) -> FitOptions:
        """Options for fitting the files of validation samples."""
        return self.fitting

    @property
    def without_effect(self) -> dict[str, str]:
        """The fields that have no effect in this request, each with the reason."""
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the dataset report on the request itself: fields that were set and have no effect."""
        fields: dict[str, list[str]] = {}
        for name, reason in self.without_effect.items():
            if getattr(self, name) != type(self).model_fields[name].default:
                fields.setdefault(reason, []).append(name)
        return tuple(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} ignored: {reason}"
            for reason, names in fields.items()
        )

    def allows(self, field: str, value: Any) -> bool:
        """Whether the request would be accepted with another value of one field (docs/media-rules.md, reading 21)."""
        try:
            type(self).model_validate(self.model_dump() | {field: value})
        except ValidationError:
            return False
        return True

    @property
    def previews(self) -> tuple[ValidationSample, ...]:
        """The validation samples; every endpoint declares its own kind of them as `validation`."""
        return tuple(getattr(self, "validation", ()))


class VideoTrainRequest(TrainRequest):
    """What every endpoint that trains on video accepts."""

    form_order = (*FIRST, *VIDEO_FIELDS, *SOUND_FIELDS, *VIDEO_PREVIEW_FIELDS, *PREVIEW_FIELDS, *LAST)
    folded = (*FOLDED, *VIDEO_FOLDED)

    number_of_frames: Frames = Field(
        89, title="Frames per clip", description="Frames trained on per clip, 9 to 121; snapped down to 8k+1."
    )
    frame_rate: FrameRate = Field(
        24,
        title="Frame rate",
        description="Target frames per second, 8 to 60; clips are retimed to it only with "
        "auto_scale_input, else each keeps its own.",
    )
    resolution: Resolution = Field(
        "medium",
        title="Resolution",
        description="Size of clips: 16:9 is 512x288, 768x448 or 960x544; 1:1 is 512, 768 or 960.",
    )
    aspect_ratio: AspectRatio = Field(
        "1:1", title="Aspect ratio", description="Width : height of clips; what lies over is cropped on both sides."
    )
    auto_scale_input: bool = Field(
        False,
        title="Auto-scale input",
        description="Retime clips to frame_rate and slow down short ones; off: skip them.",
    )
    split_input_into_scenes: bool = Field(
        False,
        title="Split into scenes",
        description="Not done here: true is ignored with a warning; split clips yourself.",
    )
    split_input_duration_threshold: float = Field(
        30.0, ge=1, le=60, title="Splitting threshold", description="Seconds above which a clip is split, 1 to 60."
    )
    validation_number_of_frames: Frames = Field(
        89, title="Preview frames", description="Frames of a preview, 9 to 121; snapped down to 8k+1."
    )
    validation_resolution: Resolution = Field(
        "high", title="Preview resolution", description="Size of previews, as resolution."
    )
    validation_aspect_ratio: AspectRatio = Field("1:1", title="Preview aspect ratio", description="Width : height.")

    @property
    def bucket(self) -> Bucket:
        return _video_bucket(self.resolution, self.aspect_ratio, self.number_of_frames, self.frame_rate)

    @property
    def preview_bucket(self) -> Bucket:
        return _video_bucket(
            self.validation_resolution,
            self.validation_aspect_ratio,
            self.validation_number_of_frames,
            self.validation_frame_rate,
        )

    @property
    def fitting(self) -> FitOptions:
        return FitOptions(
            auto_scale=self.auto_scale_input,
            normalize=self.audio_normalize,
            preserve_pitch=self.audio_preserve_pitch,
            split_above_seconds=self.split_input_duration_threshold if self._splits() else None,
            frame_counts=tuple(count for count in FRAME_COUNTS if self.allows("number_of_frames", count)),
        )

    @property
    def without_effect(self) -> dict[str, str]:
        found = {} if self._can_split() else dict(NEVER_SPLIT)
        if self._can_split() and not self.split_input_into_scenes:
            found["split_input_duration_threshold"] = "split_input_into_scenes is off"
        if not self.auto_scale_input:
            found["audio_preserve_pitch"] = "sound is stretched only with auto_scale_input"
        return found

    def _can_split(self) -> bool:
        """Whether this mode splits clips: where samples have several files, none does."""
        return bool(type(self).model_fields["split_input_into_scenes"].default)

    def _splits(self) -> bool:
        return self.split_input_into_scenes and self._can_split()


def opening_steps(seconds: float) -> int:
    """Audio steps that an opening of so many seconds gives clean: at least one."""
    return max(1, audio_steps(seconds))


def _video_bucket(resolution: str, aspect_ratio: str, frames: int, fps: int) -> Bucket:
    width, height = SIZES[resolution][aspect_ratio]
    return Bucket.of(Picture(width=width, height=height, frames=snap_frames(frames), fps=fps))

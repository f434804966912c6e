"""/audio-extend-prefix: continue a sound forward in time."""

from decimal import Decimal

from pydantic import Field, ValidationInfo, field_validator

from schemas.endpoint import Endpoint
from schemas.layout import PLAIN_AUDIO
from schemas.media import Bucket, Modality, Role
from schemas.plan import Plan, Prefix, generate
from schemas.request import AudioTrainRequest, Url, ValidationSample, opening_steps, preview_seconds, refuse
from schemas.units import audio_steps


class AudioOpening(ValidationSample):
    """A sound that the preview continues."""

    audio_url: Url = Field(title="Audio", description="Its opening conditioning_seconds are continued.")

    def media(self) -> dict[tuple[Role, Modality], str]:
        return {("target", "audio"): "audio_url"}


class AudioExtendPrefix(AudioTrainRequest):
    """Train a LoRA that continues a sound forward in time from its opening. Video fields have no effect."""

    conditioning_seconds: float = Field(
        1.0,
        ge=0.1,
        le=30,
        title="Prefix length",
        description="Opening seconds given clean, 0.1 to 30; less than the clip length.",
    )
    validation: list[AudioOpening] = Field(
        [], max_length=2, title="Previews", description="Up to two sounds to continue, to listen to during training."
    )

    @field_validator("conditioning_seconds")
    @classmethod
    def _leaves_a_continuation(cls, prefix: float, info: ValidationInfo) -> float:
        if "audio_duration_seconds" in info.data:
            _shorter_than(prefix, info.data["audio_duration_seconds"], "audio_duration_seconds")
        return prefix

    @field_validator("validation")
    @classmethod
    def _leaves_a_preview(cls, validation: list[AudioOpening], info: ValidationInfo) -> list[AudioOpening]:
        needed = ("conditioning_seconds", "audio_duration_seconds", "validation_frame_rate")
        if validation and all(name in info.data for name in needed):
            prefix, duration, rate = (info.data[name] for name in needed)
            _shorter_than(prefix, preview_seconds(duration, rate), f"the preview at {rate} frames per second")
        return validation


def _shorter_than(prefix: float, span: float, what: str) -> None:
    if prefix >= span or opening_steps(prefix) >= audio_steps(span):
        raise refuse(
            "less_than",
            f"{prefix:g} s leave nothing to generate: {what} is {span:.4g} s ({opening_steps(prefix)} of "
            f"{audio_steps(span)} latent steps given); lower conditioning_seconds or raise audio_duration_seconds",
            field="conditioning_seconds",
            value=prefix,
            lt=span,
        )


def plan(request: AudioExtendPrefix, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    return Plan(audio=generate(Prefix(steps=opening_steps(request.conditioning_seconds))))


AUDIO_EXTEND_PREFIX = Endpoint(
    "/audio-extend-prefix",
    AudioExtendPrefix,
    PLAIN_AUDIO,
    plan,
    usd_per_step=Decimal("0.0022"),
    summary="Train a LoRA that continues a sound forward in time.",
)

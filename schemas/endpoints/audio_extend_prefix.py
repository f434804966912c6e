"""/audio-extend-prefix: continue a sound forward in time."""

from decimal import Decimal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from schemas.audio_request import AudioTrainRequest, preview_seconds
from schemas.endpoint import Endpoint
from schemas.layout import PLAIN_AUDIO
from schemas.media import Bucket, Modality, Role
from schemas.plan import Plan, Prefix, generate
from schemas.request import Url, ValidationSample, opening_steps, refuse
from schemas.units import audio_steps
from schemas.wording import either


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
        description="Opening seconds given clean, 0.1 to 30; less than audio_duration_seconds.",
    )
    validation: list[AudioOpening] = Field(
        [], max_length=2, title="Previews", description="Up to two sounds to continue, to listen to during training."
    )

    @field_validator("conditioning_seconds")
    @classmethod
    def _leaves_a_continuation(cls, prefix: float, info: ValidationInfo) -> float:
        duration = info.data.get("audio_duration_seconds")
        if duration is not None and not _leaves(prefix, duration):
            rate = info.data.get("validation_frame_rate")
            raise _nothing_left(prefix, duration, "audio_duration_seconds", _for_training(prefix, duration, rate))
        return prefix

    @field_validator("validation")
    @classmethod
    def _leaves_a_preview(cls, validation: list[AudioOpening], info: ValidationInfo) -> list[AudioOpening]:
        needed = ("conditioning_seconds", "audio_duration_seconds", "validation_frame_rate")
        if validation and all(name in info.data for name in needed):
            prefix, duration, rate = (info.data[name] for name in needed)
            span = preview_seconds(duration, rate)
            if not _leaves(prefix, span):
                what = f"the preview at {rate} frames per second"
                raise _nothing_left(prefix, span, what, _for_previews(prefix, duration, rate))
        return validation


def _leaves(prefix: float, span: float) -> bool:
    """Whether a prefix leaves something of a span to generate, also after rounding to latent steps."""
    return prefix < span and opening_steps(prefix) < audio_steps(span)


def _nothing_left(prefix: float, span: float, what: str, ways: str) -> PydanticCustomError:
    return refuse(
        "less_than",
        f"{prefix:g} s leave nothing to generate: {what} is {span:.4g} s ({opening_steps(prefix)} of "
        f"{audio_steps(span)} latent steps given); {ways}",
        field="conditioning_seconds",
        value=prefix,
        lt=span,
    )


def _longest(span: float) -> float | None:
    """The longest prefix, in hundredths of a second, that leaves something of a span."""
    return next((each / 100 for each in range(int(span * 100), 9, -1) if _leaves(each / 100, span)), None)


def _for_training(prefix: float, duration: float, rate: int | None) -> str:
    lower = _longest(duration)
    assert lower  # no bucket is as short as the shortest prefix
    longer = next(each / 100 for each in range(int(prefix * 100), 6001) if _leaves(prefix, each / 100))
    ways = f"lower conditioning_seconds to {lower:g} or raise audio_duration_seconds to {longer:g}"
    if rate is None or (
        _leaves(lower, preview_seconds(duration, rate)) and _leaves(prefix, preview_seconds(longer, rate))
    ):
        return ways
    preview = f"{preview_seconds(duration, rate):.4g} s at validation_frame_rate {rate}"
    return f"{ways}; for validation samples the preview, now {preview}, must exceed the prefix, too"


def _for_previews(prefix: float, duration: float, rate: int) -> str:
    """Changes that make previews longer than the prefix: they are not longer than clips, nor than 121 frames."""
    lower = _longest(preview_seconds(duration, rate))
    ways = [f"lower conditioning_seconds to {lower:g}"] if lower else []
    if rates := [each for each in range(8, 61) if _leaves(prefix, preview_seconds(duration, each))]:
        nearest = min(rates, key=lambda each: abs(each - rate))
        ways.append(f"{'lower' if nearest < rate else 'raise'} validation_frame_rate to {nearest}")
    longer = (each / 100 for each in range(int(duration * 100) + 1, 6001))
    if seconds := next((each for each in longer if _leaves(prefix, preview_seconds(each, rate))), None):
        ways.append(f"raise audio_duration_seconds to {seconds:g}")
    return either(ways)


def plan(request: AudioExtendPrefix, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    return Plan(audio=generate(Prefix(steps=opening_steps(request.conditioning_seconds))))


ABOUT = """
The opening seconds of every sound are given clean; the model learns what comes after them: how a melody goes on, how a
voice finishes its sentence, how a machine runs down. Afterwards you give the opening of a sound and a prompt, and the
LoRA continues it in the manner of your clips.

Sound alone is trained, and less than a fifth of the transformer is loaded.
"""

AUDIO_EXTEND_PREFIX = Endpoint(
    "/audio-extend-prefix",
    AudioExtendPrefix,
    PLAIN_AUDIO,
    plan,
    usd_per_step=Decimal("0.0022"),
    summary="Train a LoRA that continues a sound forward in time.",
    about=ABOUT,
)

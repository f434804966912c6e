"""/ic-lora/a2a: turn one sound into another."""

from decimal import Decimal

from pydantic import Field

from schemas.audio_request import AudioTrainRequest
from schemas.endpoint import Endpoint
from schemas.layout import AUDIO_PAIRS
from schemas.media import Bucket, Modality, Role
from schemas.plan import Plan, Reference, generate
from schemas.request import Url, ValidationSample


class ReferenceSound(ValidationSample):
    """A sound that the preview transforms."""

    reference_audio_url: Url = Field(title="Reference audio", description="The sound to transform.")

    def media(self) -> dict[tuple[Role, Modality], str]:
        return {("reference", "audio"): "reference_audio_url"}


class AudioToAudio(AudioTrainRequest):
    """Train an in-context LoRA that turns a reference sound into a target sound. Video fields have no effect."""

    validation: list[ReferenceSound] = Field(
        [], max_length=2, title="Previews", description="Up to two sounds to transform, to listen to during training."
    )


def plan(request: AudioToAudio, bucket: Bucket) -> Plan:
    """The streams to learn, and the conditions that each is generated under."""
    return Plan(audio=generate(Reference()))


ABOUT = """
The model sees a whole reference sound and learns to make its counterpart: the same phrase in another voice, a dry
recording in a room, a sketch as a finished take. What both sounds of a pair have in common is what it learns to keep,
what differs between them is what it learns to do; so every pair should differ in the same way.

Reference and target begin together at 0 s. Sound alone is trained, and less than a fifth of the transformer is loaded.
"""

A2A = Endpoint(
    "/ic-lora/a2a",
    AudioToAudio,
    AUDIO_PAIRS,
    plan,
    usd_per_step=Decimal("0.0023"),
    summary="Train an in-context LoRA that turns one sound into another.",
    about=ABOUT,
    flow="a2a",
)

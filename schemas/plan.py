"""What is learned from what: the streams of a training, and the conditions each is generated under.

A plan is all that tasks and models know of an endpoint. Which tracks have to be decoded, which encoders and which
adapter targets are needed: all of it is read off the plan.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.media import Frozen, Modality, Role


class Prefix(Frozen):
    """The opening `steps` latent steps are given clean."""

    kind: Literal["prefix"] = "prefix"
    steps: int = Field(ge=1)


class Mask(Frozen):
    """Cells outside the white region of the sample's mask are given clean."""

    kind: Literal["mask"] = "mask"


class Reference(Frozen):
    """Clean tokens of the reference clip stand in front of the target's (in-context LoRA).

    The reference may be smaller by `downscale` and slower by `temporal_scale`; its positions are scaled back.
    """

    kind: Literal["reference"] = "reference"
    downscale: int = Field(1, ge=1)
    temporal_scale: int = Field(1, ge=1)


Condition = Annotated[Prefix | Mask | Reference, Field(discriminator="kind")]


class Generated(Frozen):
    """A modality that is denoised under conditions, in the order in which they apply."""

    conditions: tuple[Condition, ...] = ()

    def prefix_steps(self) -> int:
        return max((c.steps for c in self.conditions if isinstance(c, Prefix)), default=0)

    def reference(self) -> Reference | None:
        return next((c for c in self.conditions if isinstance(c, Reference)), None)

    def masked(self) -> bool:
        return any(isinstance(c, Mask) for c in self.conditions)


def generate(*conditions: Prefix | Mask | Reference) -> Generated:
    """Conditions that give tokens in place come first, a reference, which lengthens the sequence, last."""
    return Generated(conditions=conditions)


class Track(Frozen):
    """One modality of one role: what is decoded and encoded on its own."""

    role: Role
    modality: Modality
    downscale: int = 1
    temporal_scale: int = 1


class Plan(Frozen):
    """The streams that a training or a preview generates."""

    video: Generated | None = None
    audio: Generated | None = None

    @property
    def streams(self) -> dict[Modality, Generated]:
        both: tuple[tuple[Modality, Generated | None], ...] = (("video", self.video), ("audio", self.audio))
        return {modality: stream for modality, stream in both if stream is not None}

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.streams)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All that a training sample has to bring."""
        targets = tuple(Track(role="target", modality=modality) for modality in self.modalities)
        return targets + self._conditioning_tracks()

    @property
    def given_tracks(self) -> tuple[Track, ...]:
        """All that a validation sample has to bring: a target only where some of it is kept."""
        kept = (m for m, stream in self.streams.items() if stream.prefix_steps() or stream.masked())
        return tuple(Track(role="target", modality=modality) for modality in kept) + self._conditioning_tracks()

    def _conditioning_tracks(self) -> tuple[Track, ...]:
        tracks: list[Track] = []
        for modality, stream in self.streams.items():
            if stream.masked():
                tracks.append(Track(role="mask", modality=modality))
            if reference := stream.reference():
                tracks.append(
                    Track(
                        role="reference",
                        modality=modality,
                        downscale=reference.downscale,
                        temporal_scale=reference.temporal_scale,
                    )
                )
        return tuple(tracks)

"""Plans: the streams that a training or a preview generates, and the conditions each is generated under.

A plan is all that tasks and models know of an endpoint. Which tracks have to be decoded, which encoders and which
adapter targets are needed is read off the plan.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Literal

from pydantic import Field

from schemas.media import Frozen, Modality, Role


class Kept(Frozen):
    """The parts of a target that are given clean, and therefore not learned."""

    opening: int = 0  # latent steps
    region: bool = False  # the cells outside the white region of the sample's mask

    def __bool__(self) -> bool:
        return self != Kept()

    def __or__(self, other: "Kept") -> "Kept":
        return Kept(opening=max(self.opening, other.opening), region=self.region or other.region)


class Track(Frozen):
    """One modality of one role, decoded and encoded on its own."""

    role: Role
    modality: Modality
    downscale: int = 1
    temporal_scale: int = 1


class Prefix(Frozen):
    """Condition: the opening `steps` latent steps are given clean."""

    kind: Literal["prefix"] = "prefix"
    steps: int = Field(ge=1)

    @property
    def kept(self) -> Kept:
        return Kept(opening=self.steps)

    def track(self, modality: Modality) -> None:
        """None: a prefix needs no file beside the target."""


class Mask(Frozen):
    """Condition: cells outside the white region of the sample's mask are given clean."""

    kind: Literal["mask"] = "mask"

    @property
    def kept(self) -> Kept:
        return Kept(region=True)

    def track(self, modality: Modality) -> Track:
        """The track of the mask's file."""
        return Track(role="mask", modality=modality)


class Reference(Frozen):
    """Condition: clean tokens of the reference clip stand in front of the target's (in-context LoRA).

    The reference may be smaller by `downscale` and slower by `temporal_scale`; its positions are scaled back.
    """

    kind: Literal["reference"] = "reference"
    downscale: int = Field(1, ge=1)
    temporal_scale: int = Field(1, ge=1)

    @property
    def kept(self) -> Kept:
        return Kept()

    def track(self, modality: Modality) -> Track:
        """The track of the reference's file, with the factors by which it is made smaller and slower."""
        scales = {"downscale": self.downscale, "temporal_scale": self.temporal_scale}
        return Track(role="reference", modality=modality, **scales)


Condition = Annotated[Prefix | Mask | Reference, Field(discriminator="kind")]


class Generated(Frozen):
    """A modality that is denoised under conditions, in the order in which they apply."""

    conditions: tuple[Condition, ...] = ()

    @property
    def kept(self) -> Kept:
        """The parts of the target that all conditions together give clean."""
        return reduce(or_, (condition.kept for condition in self.conditions), Kept())

    def tracks(self, modality: Modality) -> tuple[Track, ...]:
        """Tracks that the conditions need beside the target."""
        found = (condition.track(modality) for condition in self.conditions)
        return tuple(track for track in found if track)

    def reference(self, modality: Modality) -> Track | None:
        """The track of the reference clip, if the stream has one."""
        return next((track for track in self.tracks(modality) if track.role == "reference"), None)


def generate(*conditions: Prefix | Mask | Reference) -> Generated:
    """A generated stream: conditions in place come first, a reference, which lengthens the sequence, last."""
    return Generated(conditions=conditions)


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
        """All tracks that a training sample has to bring."""
        targets = tuple(Track(role="target", modality=modality) for modality in self.modalities)
        return targets + self._conditioning_tracks()

    @property
    def given_tracks(self) -> tuple[Track, ...]:
        """All tracks that a validation sample has to bring: a target only where some of it is kept."""
        kept = (modality for modality, stream in self.streams.items() if stream.kept)
        return tuple(Track(role="target", modality=modality) for modality in kept) + self._conditioning_tracks()

    def _conditioning_tracks(self) -> tuple[Track, ...]:
        return tuple(track for modality, stream in self.streams.items() for track in stream.tracks(modality))

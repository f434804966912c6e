"""Facts of an endpoint for its page: read off its layout, its request and the plans that the request can make."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from schemas.endpoint import Endpoint
from schemas.layout import IMAGE, Slot
from schemas.media import Modality, Role
from schemas.plan import Plan, Track
from schemas.request import TrainRequest, VideoTrainRequest

ARCHIVE = "clips.zip"
PREVIEWS = "validation"
PROMPT = "my_st9le a car accelerating down a road"
WORTH_SHOWING = ("training_data_url", "trigger_phrase", "rank", "number_of_steps")


@dataclass(frozen=True)
class Facts:
    """An endpoint, as its page sees it."""

    endpoint: Endpoint[Any]

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.endpoint.layout.slots

    @cached_property
    def example(self) -> dict[str, Any]:
        """A request that works, once the files that it names are there: required fields, and those of its own."""
        fields = self.endpoint.request.model_fields
        told = {"training_data_url": ARCHIVE, "trigger_phrase": "my_st9le"}
        body = {name: told.get(name, fields[name].default) for name in WORTH_SHOWING}
        body |= {name: fields[name].default for name in self.own if not fields[name].is_required()}
        return body | {PREVIEWS: [{"prompt": PROMPT, **self.preview_files}]}

    @cached_property
    def request(self) -> TrainRequest:
        request: TrainRequest = self.endpoint.read(self.example)
        return request

    @property
    def preview_files(self) -> dict[str, str]:
        """The files of the example's validation sample, by the field that names each."""
        sample = self.endpoint.validation_sample
        required = {name for name, field in sample.model_fields.items() if field.is_required()}
        media = {field: role for (role, _), field in sample.model_construct(prompt="").media().items()}
        slots = {slot.role: slot for slot in self.slots}
        return {name: file_of("preview", slots[role]) for name, role in media.items() if name in required}

    @property
    def own(self) -> tuple[str, ...]:
        """Fields that this endpoint alone declares, its validation samples aside."""
        own = self.endpoint.request.__annotations__
        return tuple(name for name in self.endpoint.request.model_fields if name in own and name != PREVIEWS)

    @property
    def idle(self) -> frozenset[str]:
        """Fields that are accepted and have no effect: those of a picture, where there is none."""
        if self.has_picture:
            return frozenset()
        return frozenset(VideoTrainRequest.__annotations__) | {"audio_preserve_pitch"}  # only pictures are slowed down

    @cached_property
    def has_picture(self) -> bool:
        return self.request.bucket.picture is not None

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """The plan of the example, under "", and those that a switch of the request makes different, by its name."""
        usual = self.plan_of(self.request)
        switches = [name for name in self.own if isinstance(self.example.get(name), bool)]
        others = {name: self.plan_of(self._turned(name)) for name in switches}
        return {"": usual} | {name: plan for name, plan in others.items() if plan.modalities != usual.modalities}

    def plan_of(self, request: TrainRequest) -> Plan:
        plan: Plan = self.endpoint.plan(request, request.bucket)
        return plan

    def _turned(self, switch: str) -> TrainRequest:
        request: TrainRequest = self.endpoint.read(self.example | {switch: not self.example[switch]})
        return request

    @property
    def tracks(self) -> frozenset[Track]:
        return frozenset(track for plan in self.plans.values() for track in plan.tracks)

    @property
    def given_tracks(self) -> frozenset[Track]:
        return frozenset(track for plan in self.plans.values() for track in plan.given_tracks)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of conditions in any of the plans."""
        streams = [stream for plan in self.plans.values() for stream in plan.streams.values()]
        return frozenset(condition.kind for stream in streams for condition in stream.conditions)

    def needs(self, role: Role, modality: Modality) -> tuple[str, ...]:
        """Switches with which a role must bring a modality; "" where it always must."""
        made = {switch: {(track.role, track.modality) for track in plan.tracks} for switch, plan in self.plans.items()}
        return (
            ("",)
            if (role, modality) in made[""]
            else tuple(s for s, tracks in made.items() if (role, modality) in tracks)
        )


def file_of(sample: str, slot: Slot) -> str:
    """The name of a sample's file of one role; a mask as an image, the simplest one that holds for all frames."""
    extension = next((e for e in slot.extensions if e in IMAGE), slot.extensions[0])
    return f"{sample}{slot.suffix}{extension}"

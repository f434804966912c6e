"""Forms: what a box of fields refuses, and the order in which its fields are shown, those that matter first."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

OWN = "..."  # place in a form's order of the fields that it does not name: those of the endpoint itself
PREVIEW_FIELDS = ("validation_negative_prompt", "validation_frame_rate", "stg_scale")
VIDEO_FIELDS = (
    "resolution", "aspect_ratio", "number_of_frames", "frame_rate", "auto_scale_input", "split_input_into_scenes",
    "split_input_duration_threshold",
)  # fmt: skip
VIDEO_PREVIEW_FIELDS = ("validation_resolution", "validation_aspect_ratio", "validation_number_of_frames")
FIRST = ("training_data_url", "trigger_phrase", OWN, "number_of_steps", "rank", "validation")
SOUND_FIELDS = ("audio_normalize", "audio_preserve_pitch")
LAST = ("learning_rate", "debug_dataset")
FOLDED = (*LAST, *SOUND_FIELDS, *PREVIEW_FIELDS)
VIDEO_FOLDED = (
    "frame_rate", "split_input_into_scenes", "split_input_duration_threshold", *VIDEO_PREVIEW_FIELDS
)  # fmt: skip


class Form(BaseModel):
    """A box of the run form: unknown keys are refused, not ignored.

    Defaults are validated, too: a rule between fields also holds where one of them was left at its default.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, validate_default=True)


class OrderedForm(Form):
    """A form that shows the fields that matter first.

    Only its schema has that order: values are checked, kept and hashed in the order in which they are declared, where a
    rule between fields stands on the later one.
    """

    form_order: ClassVar[tuple[str, ...]] = ("...",)
    folded: ClassVar[tuple[str, ...]] = ()  # their defaults suit most people: a form may fold them away
    unused: ClassVar[tuple[str, ...]] = ()  # accepted because the hosted endpoints accept them, and never of effect

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        form = handler.resolve_ref_schema(made)
        form["properties"] = in_order(form["properties"], cls.form_order)
        return made


def in_order(fields: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """A form's fields in an order; those that it does not name are where it says OWN."""
    own = [name for name in fields if name not in order]
    place = order.index(OWN)
    return {name: fields[name] for name in (*order[:place], *own, *order[place + 1 :]) if name in fields}

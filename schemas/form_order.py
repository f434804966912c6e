"""The order of a form's fields: those that matter first, those of no effect or for few people last."""

from collections.abc import Mapping
from typing import Any

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


def in_order(fields: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """A form's fields in an order; those that it does not name are where it says OWN."""
    own = [name for name in fields if name not in order]
    place = order.index(OWN)
    return {name: fields[name] for name in (*order[:place], *own, *order[place + 1 :]) if name in fields}

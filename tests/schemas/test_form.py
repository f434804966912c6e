"""Forms: the fields that matter first, and nothing of the order in what is checked, kept or hashed."""

import pytest

from schemas.endpoints import ENDPOINTS
from schemas.form import VIDEO_FIELDS, VIDEO_PREVIEW_FIELDS

FIRST, AMONG_FIRST = ["training_data_url", "trigger_phrase"], ["number_of_steps", "rank", "validation"]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_form_begins_with_the_data_then_what_the_endpoint_is_about_then_steps_rank_and_previews(name):
    request = ENDPOINTS[name].request
    shown = list(request.model_json_schema()["properties"])
    own = shown[2 : shown.index("number_of_steps")]
    assert shown[:2] == FIRST and shown[2 + len(own) :][:3] == AMONG_FIRST
    assert set(own) == set(request.__annotations__) - {"validation", "split_input_into_scenes"} | (
        {"audio_duration_seconds"} & set(shown)
    )


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_form_has_every_field_and_values_keep_their_own_order(name):
    request = ENDPOINTS[name].request
    shown = request.model_json_schema()["properties"]
    assert set(shown) == set(request.model_fields)
    assert list(request(training_data_url="https://x/a.zip").model_dump()) == list(request.model_fields)


@pytest.mark.parametrize("name", ["audio-extend-prefix", "ic-lora/a2a"])
def test_fields_of_video_are_last_where_they_have_no_effect(name):
    shown = list(ENDPOINTS[name].request.model_json_schema()["properties"])
    without = [*VIDEO_FIELDS, *VIDEO_PREVIEW_FIELDS]
    assert shown[-len(without) :] == without

"""The form of an endpoint has every field of its request, in its order, each as what it is."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from flows.service.pages.form import form_of
from schemas.endpoints import ENDPOINTS
from schemas.request import TrainRequest, VideoTrainRequest


class Box(BaseModel):
    side: int = 4


class Nested(BaseModel):
    texts: list[str] = []


class Later(TrainRequest):
    """What no endpoint has yet."""

    box: Box = Box(side=7)
    words: list[str] = Field([], title="Words")
    nested: list[Nested] = Field([], title="Nested")
    either: int | Literal["auto"] = "auto"
    maybe: float | None = None
    mode: Literal["a", "b"] | None = None


def fields(request, **body):
    form = form_of(request).filled(body)
    return {field.name: field for field in (*form.first, *form.folded)}


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_a_form_has_every_field_that_has_an_effect_in_the_schemas_order(endpoint):
    form, order = form_of(endpoint.request), list(endpoint.request.model_json_schema()["properties"])
    named = [field.name for field in (*form.first, *form.folded)]
    assert set(named) == set(order) - set(endpoint.request.unused)
    for part in (form.first, form.folded):
        assert [field.name for field in part] == sorted((field.name for field in part), key=order.index)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_what_is_folded_has_a_default_and_what_is_required_is_not_folded(endpoint):
    form = form_of(endpoint.request)
    assert {field.name for field in form.first} >= {"training_data_url", "number_of_steps", "validation"}
    assert not any(field.required for field in form.folded)


def test_a_form_for_sound_asks_nothing_of_pictures():
    named = fields(ENDPOINTS["audio-extend-prefix"].request)
    assert {"resolution", "number_of_frames"} & named.keys() == set()
    assert {"resolution", "number_of_frames"} <= set(VideoTrainRequest.model_fields)


def test_fields_are_what_their_types_say():
    request = ENDPOINTS["extend-prefix"].request
    kinds = {name: field.kind for name, field in fields(request).items()}
    assert kinds["training_data_url"] == "archive" and kinds["trigger_phrase"] == "text"
    assert kinds["validation_negative_prompt"] == "prose" and kinds["debug_dataset"] == "switch"
    assert kinds["rank"] == kinds["conditioning_frames"] == "choice"
    steps, previews = fields(request)["number_of_steps"], fields(request)["validation"]
    assert (steps.kind, steps.whole, steps.least, steps.most, steps.shown) == ("number", True, 100, 20000, "2000")
    assert (previews.kind, previews.items) == ("list", 2)
    assert [(each.name, each.kind, each.accept) for each in previews.fields] == [
        ("prompt", "prose", ""),
        ("video_url", "media", "video/*"),
    ]


def test_what_no_endpoint_has_yet_has_a_field_too():
    kinds = {name: (field.kind, field.nullable) for name, field in fields(Later).items()}
    assert kinds["maybe"] == ("number", True) and kinds["mode"] == ("choice", True)
    assert kinds["either"][0] == kinds["words"][0] == kinds["nested"][0] == "json"
    (side,) = fields(Later)["box"].fields
    assert (side.name, side.value) == ("side", 7)
    assert fields(Later, box={"side": 2})["box"].fields[0].value == 2


def test_a_form_is_filled_in_as_an_earlier_request_was():
    body = {"rank": 64, "learning_rate": 1e-6, "validation": [{"prompt": "a walk", "video_url": "upload://x/a.mp4"}]}
    filled = fields(ENDPOINTS["extend-prefix"].request, **body)
    assert (filled["rank"].value, filled["learning_rate"].shown) == (64, "0.000001")
    assert [[field.value for field in row] for row in filled["validation"].rows()] == [["a walk", "upload://x/a.mp4"]]


def test_a_range_is_shown_unless_the_description_tells_it():
    class Plain(TrainRequest):
        strength: float = Field(1, ge=0.5, le=2, description="How strong.")

    assert fields(Plain)["strength"].bounds == "0.5 to 2"
    assert fields(Plain)["number_of_steps"].bounds == ""

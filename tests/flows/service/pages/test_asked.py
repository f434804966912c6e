"""What was asked, for people: what was set first, defaults apart, and where requests differ."""

from flows.service.pages import asked, outcome
from flows.service.register import entry_of
from schemas.endpoints import ENDPOINTS
from tests.support.service_app import BODY

SIGNED = "https://me:s3cret@example.com/clips.zip?X-Amz-Signature=s3cret"


def entry(endpoint="extend-prefix", **body):
    whole = ENDPOINTS[endpoint].request.model_validate(BODY | body).model_dump(mode="json")
    return entry_of(endpoint, whole, owner="me", origin="https://here")


def test_fields_that_were_set_stand_apart_from_defaults():
    told = asked.asked(entry(rank=64, with_audio=True))
    shown = [(name, value) for name, _, value in told.set]
    assert shown[0] == ("training_data_url", "https://example.com/clips.zip")
    assert set(shown[1:]) == {("rank", "64"), ("with_audio", "yes")}
    assert ("learning_rate", "Learning rate", "0.0002") in told.left


def test_requests_differ_where_their_values_do_and_where_one_has_no_such_field():
    found = asked.differences([entry(rank=64), entry(), entry("ic-lora/a2a")])
    told = {each.title: each.values for each in found}
    assert told["Rank"] == ["64", "32", "32"] and told["Endpoint"] == ["extend-prefix", "extend-prefix", "ic-lora/a2a"]
    assert told["Prefix frames"] == ["9", "9", None] and "Learning rate" not in told


def test_nothing_secret_is_shown_and_what_is_missing_then_is_named():
    signed = entry(training_data_url=SIGNED)
    body, hidden = asked.to_ask_again(signed)
    assert (body["training_data_url"], hidden) == ("https://example.com/clips.zip", ["Training data"])
    assert "s3cret" not in str(asked.asked(signed)) + str(asked.differences([signed, entry()]))
    assert asked.to_ask_again(entry())[1] == []


def test_a_request_of_an_endpoint_that_is_gone_is_still_told():
    former = entry_of("gone", {"rank_of_old": 3}, owner="me", origin="https://here")
    assert asked.asked(former).set == [("rank_of_old", "Rank of old", "3")]


def test_an_uploaded_file_is_told_by_its_name():
    assert asked.in_words("upload://0123/my%20clips.zip") == "my clips.zip (uploaded)"


def test_a_fault_is_told_by_the_name_that_its_field_has_in_the_form():
    wrong = entry().model_copy(
        update={"code": 422, "answer": {"detail": [{"loc": ["body", "validation", 0, "video_url"], "msg": "is short"}]}}
    )
    assert outcome.faults(wrong) == [("Previews 1 video url", "is short")]

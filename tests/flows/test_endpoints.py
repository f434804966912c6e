"""Every default, range and rule between fields of the five endpoints, as the hosted endpoints state them."""

import pytest

from schemas.endpoints import ENDPOINTS
from schemas.rejections import RequestRejected
from schemas.request import NEGATIVE_PROMPT, SIZES

ALL = sorted(ENDPOINTS)
VIDEO = ["av2av-masked", "extend-prefix", "ic-lora/av2av"]
AUDIO = ["audio-extend-prefix", "ic-lora/a2a"]
OPENING = {"prompt": "a car", "video_url": "s3://b/opening.mp4"}
SOUND = {"prompt": "a piano", "audio_url": "s3://b/opening.wav"}

SHARED_DEFAULTS = {
    "trigger_phrase": "",
    "rank": 32,
    "number_of_steps": 2000,
    "learning_rate": 0.0002,
    "audio_normalize": True,
    "audio_preserve_pitch": True,
    "validation": [],
    "validation_negative_prompt": NEGATIVE_PROMPT,
    "validation_frame_rate": 24,
    "stg_scale": 1.0,
    "debug_dataset": False,
    "number_of_frames": 89,
    "frame_rate": 24,
    "resolution": "medium",
    "aspect_ratio": "1:1",
    "auto_scale_input": False,
    "split_input_duration_threshold": 30.0,
    "validation_number_of_frames": 89,
    "validation_resolution": "high",
    "validation_aspect_ratio": "1:1",
}
OWN_DEFAULTS = {
    "audio-extend-prefix": {
        "conditioning_seconds": 1.0,
        "audio_duration_seconds": 5.0,
        "split_input_into_scenes": False,
    },
    "extend-prefix": {"conditioning_frames": 9, "with_audio": False, "split_input_into_scenes": True},
    "ic-lora/a2a": {"audio_duration_seconds": 5.0, "split_input_into_scenes": False},
    "ic-lora/av2av": {
        "reference_downscale_factor": 1,
        "reference_temporal_scale_factor": 1,
        "split_input_into_scenes": False,
    },
    "av2av-masked": {"split_input_into_scenes": False},
}
RANGES = {
    "number_of_steps": (ALL, 100, 20000),
    "number_of_frames": (VIDEO, 9, 121),
    "frame_rate": (VIDEO, 8, 60),
    "split_input_duration_threshold": (ALL, 1.0, 60.0),
    "validation_number_of_frames": (VIDEO, 9, 121),
    "validation_frame_rate": (ALL, 8, 60),
    "stg_scale": (ALL, 0.0, 3.0),
    "conditioning_frames": (["extend-prefix"], 9, 121),
    "audio_duration_seconds": (AUDIO, 0.5, 60.0),
    "conditioning_seconds": (["audio-extend-prefix"], 0.1, 30.0),
    "reference_downscale_factor": (["ic-lora/av2av"], 1, 8),
    "reference_temporal_scale_factor": (["ic-lora/av2av"], 1, 8),
}


def read(name, **fields):
    return ENDPOINTS[name].read({"training_data_url": "s3://b/clips.zip", **fields})


def faults(name, **fields):
    with pytest.raises(RequestRejected) as caught:
        read(name, **fields)
    return [(fault.loc, fault.type) for fault in caught.value.details()]


@pytest.mark.parametrize("name", ALL)
def test_the_defaults_are_the_seeds(name):
    request = read(name).model_dump()
    assert request == {"training_data_url": "s3://b/clips.zip", **SHARED_DEFAULTS, **OWN_DEFAULTS[name]}


@pytest.mark.parametrize(("name", "field"), [(n, f) for f, (names, _, _) in RANGES.items() for n in names])
def test_ranges_are_the_seeds_and_name_their_bound(name, field):
    _, least, most = RANGES[field]
    assert (("body", field), "greater_than_equal") in faults(name, **{field: least - 1})
    assert (("body", field), "less_than_equal") in faults(name, **{field: most + 1})


@pytest.mark.parametrize("name", ALL)
def test_ranks_are_five(name):
    assert [read(name, rank=rank).rank for rank in (8, 16, 32, 64, 128)] == [8, 16, 32, 64, 128]
    assert faults(name, rank=33) == [(("body", "rank"), "one_of")]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("rate", "kind"), [(0, "greater_than_equal"), (9e-7, "greater_than_equal"), (1.01, "less_than_equal")]
)
def test_a_learning_rate_is_bounded_as_hosted(name, rate, kind):
    assert faults(name, learning_rate=rate) == [(("body", "learning_rate"), kind)]
    assert [read(name, learning_rate=edge).learning_rate for edge in (1e-6, 1)] == [1e-6, 1]


@pytest.mark.parametrize("name", ALL)
def test_the_training_data_is_required(name):
    with pytest.raises(RequestRejected) as caught:
        ENDPOINTS[name].read({})
    assert [(fault.loc, fault.type) for fault in caught.value.details()] == [(("body", "training_data_url"), "missing")]


@pytest.mark.parametrize("name", ALL)
def test_unknown_fields_are_refused_not_ignored(name):
    assert faults(name, webhookUrl="https://x") == [(("body", "webhookUrl"), "extra_forbidden")]


def test_all_faults_are_listed_together():
    found = faults("extend-prefix", rank=33, conditioning_frames=10, stg_scale=4, validation=[{"prompt": "no video"}])
    assert found == [
        (("body", "rank"), "one_of"),
        (("body", "stg_scale"), "less_than_equal"),
        (("body", "conditioning_frames"), "multiple_of"),
        (("body", "validation", 0, "video_url"), "missing"),
    ]


def test_at_most_two_previews():
    assert faults("extend-prefix", validation=[OPENING] * 3) == [(("body", "validation"), "sequence_too_long")]


def test_a_fault_has_the_whole_shape_of_the_hosted_endpoints():
    with pytest.raises(RequestRejected) as caught:
        read("extend-prefix", number_of_steps=99)
    assert caught.value.details()[0].model_dump() == {
        "loc": ("body", "number_of_steps"),
        "msg": "Input should be greater than or equal to 100",
        "type": "greater_than_equal",
        "input": 99,
        "ctx": {"ge": 100},
    }


@pytest.mark.parametrize(("given", "snapped"), [(96, 89), (89, 89), (9, 9), (16, 9), (121, 121), (120, 113)])
def test_frames_are_snapped_down_to_the_nearest_valid_count(given, snapped):
    assert read("ic-lora/av2av", number_of_frames=given).bucket.picture.frames == snapped


@pytest.mark.parametrize("frames", [10, 16, 88, 120])
def test_a_prefix_is_not_snapped_but_refused(frames):
    assert faults("extend-prefix", conditioning_frames=frames) == [(("body", "conditioning_frames"), "multiple_of")]


def test_a_prefix_is_compared_with_the_snapped_clip_and_both_numbers_are_named():
    with pytest.raises(RequestRejected, match=r"89 frames leave nothing .* number_of_frames is 96, snapped down to 89"):
        read("extend-prefix", number_of_frames=96, conditioning_frames=89)
    assert read("extend-prefix", number_of_frames=97, conditioning_frames=89)


def test_a_prefix_is_compared_with_the_preview_only_if_there_is_one():
    assert read("extend-prefix", validation_number_of_frames=9)
    found = faults("extend-prefix", validation_number_of_frames=16, validation=[OPENING])
    assert found == [(("body", "conditioning_frames"), "less_than")]


@pytest.mark.parametrize("frames", [9, 16])
def test_a_clip_as_short_as_the_prefix_that_was_left_at_its_default_is_refused(frames):
    assert faults("extend-prefix", number_of_frames=frames) == [(("body", "conditioning_frames"), "less_than")]


@pytest.mark.parametrize("seconds", [0.5, 0.9, 1.0])
def test_a_sound_as_short_as_the_prefix_that_was_left_at_its_default_is_refused(seconds):
    found = faults("audio-extend-prefix", audio_duration_seconds=seconds)
    assert found == [(("body", "conditioning_seconds"), "less_than")]


@pytest.mark.parametrize("name", ALL)
def test_every_default_is_validated_so_that_no_rule_between_fields_has_a_hole(name):
    """A request of the least that is asked for is judged as the same request with every default written out."""
    spelled_out = read(name).model_dump(mode="json")
    bounds = {
        "number_of_frames": (9, 17, 121),
        "audio_duration_seconds": (0.5, 1, 60),
        "validation_frame_rate": (8, 60),
    }
    bounds |= {"conditioning_frames": (9, 121), "conditioning_seconds": (0.1, 30), "resolution": ("low", "high")}
    bounds |= {"reference_downscale_factor": (2, 8), "reference_temporal_scale_factor": (2, 8)}
    fields = ENDPOINTS[name].request.model_fields
    for field, value in [(f, v) for f, values in bounds.items() if f in fields for v in values]:
        assert judged(name, {field: value}) == judged(name, spelled_out | {field: value})


def judged(name, fields):
    try:
        read(name, **{key: value for key, value in fields.items() if key != "training_data_url"})
    except RequestRejected as error:
        return [(fault.loc, fault.type, fault.msg) for fault in error.details()]
    return []


@pytest.mark.parametrize("seconds", [5.0, 4.99, 6.0])
def test_a_sound_prefix_leaves_something_to_generate_after_rounding(seconds):
    assert faults("audio-extend-prefix", conditioning_seconds=seconds) == [
        (("body", "conditioning_seconds"), "less_than")
    ]


def test_a_sound_prefix_of_all_but_one_step_is_accepted():
    assert read("audio-extend-prefix", conditioning_seconds=4.96).conditioning_seconds == 4.96


@pytest.mark.parametrize(
    ("duration", "rate", "seconds"),
    [(5, 8, 33 / 8), (5, 24, 113 / 24), (5, 30, 121 / 30), (5, 60, 121 / 60), (1, 8, 1 / 8), (1, 24, 17 / 24)],
)
def test_a_sound_preview_is_sized_from_the_bucket_and_the_preview_frame_rate(duration, rate, seconds):
    request = read(
        "audio-extend-prefix", audio_duration_seconds=duration, validation_frame_rate=rate, conditioning_seconds=0.1
    )
    assert request.preview_bucket.seconds == pytest.approx(seconds)


def test_a_low_preview_frame_rate_shrinks_the_window_and_is_refused_with_previews():
    fields = {"audio_duration_seconds": 1, "validation_frame_rate": 8, "conditioning_seconds": 0.5}
    assert read("audio-extend-prefix", **fields)
    found = faults("audio-extend-prefix", **fields, validation=[SOUND])
    assert found == [(("body", "conditioning_seconds"), "less_than")]


def test_the_message_shows_the_computed_span():
    with pytest.raises(RequestRejected, match=r"the preview at 60 frames per second is 2\.017 s"):
        read("audio-extend-prefix", validation_frame_rate=60, conditioning_seconds=3, validation=[SOUND])


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_reference_factors_that_fit_training_and_preview_size(factor):
    assert read("ic-lora/av2av", reference_downscale_factor=factor).reference_downscale_factor == factor


@pytest.mark.parametrize("factor", [4, 5, 7, 8])
def test_other_reference_factors_are_refused_with_those_that_fit(factor):
    with pytest.raises(RequestRejected, match="factors that fit: 1, 2, 3, 6"):
        read("ic-lora/av2av", reference_downscale_factor=factor)


def test_a_temporal_factor_is_refused_with_the_frame_counts_that_would_work():
    with pytest.raises(RequestRejected, match=r"factor 2: 17, 33, 49, 65, 81, 97, 113"):
        read("ic-lora/av2av", reference_temporal_scale_factor=2)
    frames = {"number_of_frames": 81, "validation_number_of_frames": 17}
    assert read("ic-lora/av2av", reference_temporal_scale_factor=2, **frames)


def test_the_resolution_table_is_the_seeds():
    assert SIZES == {
        "low": {"16:9": (512, 288), "1:1": (512, 512), "9:16": (288, 512)},
        "medium": {"16:9": (768, 448), "1:1": (768, 768), "9:16": (448, 768)},
        "high": {"16:9": (960, 544), "1:1": (960, 960), "9:16": (544, 960)},
    }


@pytest.mark.parametrize("name", ALL)
def test_every_field_of_the_form_is_titled_and_described(name):
    fields = ENDPOINTS[name].request.model_fields | ENDPOINTS[name].validation_sample.model_fields
    assert [field for field, info in fields.items() if not (info.title and info.description)] == []

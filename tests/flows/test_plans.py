"""Plans: what the endpoints promise, and prefixes as latent steps."""

import pytest

from schemas.endpoints import ENDPOINTS

ALL = sorted(ENDPOINTS)


def read(name, **fields):
    return ENDPOINTS[name].read({"training_data_url": "s3://b/clips.zip", **fields})


def test_plans_are_what_the_endpoints_promise():
    tracks = {name: [(t.role, t.modality) for t in plan_of(name).tracks] for name in ALL}
    both = [("target", "video"), ("target", "audio")]
    assert tracks == {
        "audio-extend-prefix": [("target", "audio")],
        "extend-prefix": [("target", "video")],
        "ic-lora/a2a": [("target", "audio"), ("reference", "audio")],
        "ic-lora/av2av": [*both, ("reference", "video"), ("reference", "audio")],
        "av2av-masked": [*both, ("mask", "video"), ("reference", "video"), ("reference", "audio")],
    }


def plan_of(name, **fields):
    request = read(name, **fields)
    return ENDPOINTS[name].plan(request, request.bucket)


def test_prefixes_become_latent_steps():
    plan = plan_of("extend-prefix", with_audio=True, conditioning_frames=17)
    assert (plan.video.kept.opening, plan.audio.kept.opening) == (3, 18)  # 17 / 24 s = 17.7 steps of 1/25 s
    assert plan_of("audio-extend-prefix", conditioning_seconds=0.1).audio.kept.opening == 2  # half to even


def test_a_clip_at_its_own_rate_has_a_prefix_of_its_own_length():
    request = read("extend-prefix", with_audio=True)
    plan = ENDPOINTS["extend-prefix"].plan(request, request.bucket.at(60))
    assert plan.audio.kept.opening == 4  # 9 / 60 s = 3.75 steps


def test_a_clip_of_very_many_frames_per_second_still_leaves_sound_to_generate():
    request = read("extend-prefix", with_audio=True, number_of_frames=17)
    bucket = request.bucket.at(240)
    assert ENDPOINTS["extend-prefix"].plan(request, bucket).audio.kept.opening < bucket.audio_steps == 2


@pytest.mark.parametrize("name", ALL)
def test_what_a_preview_is_given_comes_from_a_field_of_the_validation_sample(name):
    endpoint = ENDPOINTS[name]
    sample = endpoint.validation_sample.model_construct()
    wanted = {(track.role, track.modality) for track in plan_of(name).given_tracks}
    assert wanted <= sample.media().keys()
    assert set(sample.media().values()) <= set(endpoint.validation_sample.model_fields)

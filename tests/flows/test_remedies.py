"""Remedies work: each change that a message names is applied, and the request or the clip is then accepted."""

import re

import pytest

from flows.plan import plan_run
from schemas.endpoints import ENDPOINTS
from schemas.rejections import InputRejected, RequestRejected
from schemas.settings import settings
from tests.support.clips import ffmpeg, tone, video, zipped

CHANGE = re.compile(r"(?:lower|raise) (\w+) to ([\d.]*\d)")
SWITCH = re.compile(r"turn (on|off) (\w+)")
URL = {"training_data_url": "s3://bucket/data.zip"}
OPENING = [{"prompt": "on", "video_url": "s3://bucket/a.mp4"}]
SOUND = [{"prompt": "on", "audio_url": "s3://bucket/a.wav"}]
LOW = {"resolution": "low", "aspect_ratio": "16:9"}
LOW |= {f"validation_{field}": value for field, value in LOW.items()}


def changes(message):
    """The changes of one parameter that a message names."""
    named = [(field, float(value) if "." in value else int(value)) for field, value in CHANGE.findall(message)]
    return named + [(field, state == "on") for state, field in SWITCH.findall(message)]


def judged(endpoint, body):
    """Messages of a request that is refused, none of one that is accepted."""
    try:
        ENDPOINTS[endpoint].read(URL | body)
    except RequestRejected as error:
        return [fault.msg for fault in error.details()]
    return []


def planned(endpoint, body):
    """Messages of a dry run: why it is refused, or why samples are skipped."""
    try:
        answer = plan_run(ENDPOINTS[endpoint], ENDPOINTS[endpoint].read(body))
    except InputRejected as error:
        return [fault.msg for fault in error.details()]
    return [one.reason for one in answer.skipped]


# --- between fields of a request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preview", [9, 16, 25, 121])
@pytest.mark.parametrize(("prefix", "frames"), [(9, 9), (9, 12), (17, 17), (33, 20), (113, 96), (121, 121)])
def test_what_a_message_says_of_a_prefix_of_frames_helps(prefix, frames, preview):
    body = {"conditioning_frames": prefix, "number_of_frames": frames, "validation_number_of_frames": preview}
    [message] = judged("extend-prefix", body)
    assert changes(message)
    for field, value in changes(message):
        assert judged("extend-prefix", body | {field: value}) == []
        again = judged("extend-prefix", body | {field: value, "validation": OPENING})
        assert again == [] or "validation_number_of_frames, now" in message


def test_a_prefix_that_no_single_change_helps_is_told_both():
    [message] = judged("extend-prefix", {"conditioning_frames": 121, "number_of_frames": 9})
    assert changes(message) == [("conditioning_frames", 9), ("number_of_frames", 17)]
    assert judged("extend-prefix", dict(changes(message))) == []


@pytest.mark.parametrize(("prefix", "preview"), [(9, 9), (17, 16), (113, 25)])
def test_what_a_message_says_of_a_previews_frames_helps(prefix, preview):
    body = {"conditioning_frames": prefix, "number_of_frames": 121, "validation_number_of_frames": preview}
    [message] = judged("extend-prefix", body | {"validation": OPENING})
    for field, value in changes(message):
        assert judged("extend-prefix", body | {field: value, "validation": OPENING}) == []


@pytest.mark.parametrize(("prefix", "duration"), [(1.0, 0.5), (4.99, 5), (30, 5), (0.5, 0.5), (30, 30)])
@pytest.mark.parametrize("rate", [8, 24, 60])
def test_what_a_message_says_of_a_prefix_of_seconds_helps(prefix, duration, rate):
    body = {"conditioning_seconds": prefix, "audio_duration_seconds": duration, "validation_frame_rate": rate}
    [message] = judged("audio-extend-prefix", body)
    assert len(changes(message)) == 2
    for field, value in changes(message):
        assert judged("audio-extend-prefix", body | {field: value}) == []
        again = judged("audio-extend-prefix", body | {field: value, "validation": SOUND})
        assert again == [] or "for validation samples the preview, now" in message


@pytest.mark.parametrize(
    ("prefix", "duration", "rate", "fields"),
    [
        (
            4.9,
            5,
            60,
            ["conditioning_seconds", "validation_frame_rate"],
        ),  # the window is 121 frames, however long clips are
        (0.2, 1, 8, ["conditioning_seconds", "validation_frame_rate", "audio_duration_seconds"]),
        (29, 60, 24, ["conditioning_seconds"]),
        (0.1, 0.5, 15, ["validation_frame_rate", "audio_duration_seconds"]),  # a prefix of 0.1 s is the shortest
    ],
)
def test_what_a_message_says_of_a_preview_window_helps(prefix, duration, rate, fields):
    body = {"conditioning_seconds": prefix, "audio_duration_seconds": duration, "validation_frame_rate": rate}
    [message] = judged("audio-extend-prefix", body | {"validation": SOUND})
    assert [field for field, _ in changes(message)] == fields
    for field, value in changes(message):
        assert judged("audio-extend-prefix", body | {field: value, "validation": SOUND}) == []


def test_only_the_size_that_a_factor_does_not_divide_is_named():
    [message] = judged("ic-lora/av2av", {"reference_downscale_factor": 4})
    assert message.startswith("validation_resolution 960x960 divided by 4") and " resolution 768" not in message


# --- clips --------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data set of these files, as a request names it."""
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()

    def packed(**files):
        names = {f"{name}{path.suffix}": path for name, path in files.items()}
        (tmp_path / "data.zip").write_bytes(zipped(names))
        return LOW | {"training_data_url": (tmp_path / "data.zip").as_uri()}

    return packed


def each_helps(endpoint, body):
    """Every change that any message names ends that message."""
    messages = planned(endpoint, body)
    found = [(message, change) for message in messages for change in changes(message)]
    for message, (field, value) in found:
        assert message not in planned(endpoint, body | {field: value}), (message, field, value)
    return [f"{field} {value}" for _, (field, value) in found]


def test_a_clip_that_is_too_short_is_not_told_to_become_all_prefix(data, tmp_path):
    body = data(a=video(tmp_path / "a.mp4", 33), b=video(tmp_path / "b.mp4", 24))
    body |= {"number_of_frames": 33, "conditioning_frames": 17}
    assert each_helps("extend-prefix", body) == ["auto_scale_input True"]
    assert each_helps("extend-prefix", body | {"conditioning_frames": 9})[0] == "number_of_frames 17"


def test_a_pair_is_told_a_length_that_both_files_and_the_reference_factor_allow(data, tmp_path):
    long, short = video(tmp_path / "l.mp4", 40, sound=True), video(tmp_path / "s.mp4", 25, sound=True)
    body = data(a_start=short, a_end=video(tmp_path / "m.mp4", 27, sound=True), b_start=long, b_end=long)
    body |= {"number_of_frames": 33, "validation_number_of_frames": 17, "reference_temporal_scale_factor": 2}
    assert each_helps("ic-lora/av2av", body) == ["number_of_frames 17", "auto_scale_input True"]


def test_a_sound_that_is_too_short_is_not_told_to_become_all_prefix(data, tmp_path):
    body = data(a=tone(tmp_path / "a.wav", 2.0), b=tone(tmp_path / "b.wav", 0.905), c=tone(tmp_path / "c.wav", 0.6))
    body |= {"audio_duration_seconds": 2, "conditioning_seconds": 0.6}
    assert each_helps("audio-extend-prefix", body) == ["audio_duration_seconds 0.9"]


def test_a_silent_clip_is_told_how_to_do_without_sound(data, tmp_path):
    body = data(a=video(tmp_path / "a.mp4", 17)) | {"number_of_frames": 17, "with_audio": True}
    assert each_helps("extend-prefix", body) == ["with_audio False"]


def test_a_scene_that_is_too_short_even_for_retiming_is_told_to_stay_in_its_clip(data, tmp_path):
    video(tmp_path / "b.mp4", 7, extra=("-vf", "negate,hue=h=90"))
    join = "[0:v][1:v]concat=n=2"
    inputs = ("-i", str(video(tmp_path / "a.mp4", 30)), "-i", str(tmp_path / "b.mp4"))
    ffmpeg(*inputs, "-filter_complex", join, "-pix_fmt", "yuv420p", str(tmp_path / "film.mp4"))
    body = data(film=tmp_path / "film.mp4") | {"number_of_frames": 17, "split_input_duration_threshold": 1}
    assert each_helps("extend-prefix", body) == ["split_input_into_scenes False"]
    assert each_helps("extend-prefix", body | {"auto_scale_input": True}) == ["split_input_into_scenes False"]


# --- validation samples -------------------------------------------------------------------------------------------


def previews(**files):
    return {"validation": [{"prompt": "on", **{field: path.as_uri() for field, path in files.items()}}]}


@pytest.mark.parametrize(("frames", "factor", "told"), [(12, 1, "9"), (20, 2, "17"), (12, 2, None), (5, 1, None)])
def test_a_reference_that_is_too_short_is_told_a_preview_that_it_fills(data, tmp_path, frames, factor, told):
    good, short = video(tmp_path / "g.mp4", 34, sound=True), video(tmp_path / "s.mp4", frames, sound=True)
    body = data(a_start=good, a_end=good) | previews(reference_video_url=short)
    body |= {"number_of_frames": 33, "validation_number_of_frames": 33, "reference_temporal_scale_factor": factor}
    assert each_helps("ic-lora/av2av", body) == ([f"validation_number_of_frames {told}"] if told else [])


def test_a_reference_sound_that_is_too_short_is_told_a_preview_that_it_fills(data, tmp_path):
    good = video(tmp_path / "g.mp4", 20, sound=True)
    body = data(a_start=good, a_end=good)
    body |= previews(reference_video_url=good, reference_audio_url=tone(tmp_path / "s.wav", 0.5))
    body |= {"number_of_frames": 17, "validation_number_of_frames": 17}
    assert each_helps("ic-lora/av2av", body) == ["validation_number_of_frames 9"]


def test_a_sound_to_transform_is_told_the_frame_rate_that_sizes_its_preview(data, tmp_path):
    good = tone(tmp_path / "g.wav", 5.5)
    body = data(a_start=good, a_end=tone(tmp_path / "e.wav", 5.2))
    body |= previews(reference_audio_url=tone(tmp_path / "s.wav", 3.0))
    helped = each_helps("ic-lora/a2a", body)
    assert [change.split()[0] for change in helped] == ["audio_duration_seconds", "validation_frame_rate"]
    assert each_helps("ic-lora/a2a", body | previews(reference_audio_url=tone(tmp_path / "t.wav", 0.1))) == []


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.5])
def test_a_sound_to_continue_is_told_a_prefix_that_it_fills(data, tmp_path, seconds):
    body = data(a=tone(tmp_path / "a.wav", 2.1)) | {"audio_duration_seconds": 2, "conditioning_seconds": 1}
    body |= previews(audio_url=tone(tmp_path / "s.wav", seconds))
    assert len(each_helps("audio-extend-prefix", body)) == 1


def test_a_clip_to_continue_is_told_a_prefix_that_its_picture_and_its_sound_fill(data, tmp_path):
    body = data(a=video(tmp_path / "a.mp4", 34, sound=True)) | {"number_of_frames": 33, "conditioning_frames": 25}
    body |= {"with_audio": True, "validation_number_of_frames": 33}
    body |= previews(video_url=video(tmp_path / "s.mp4", 18, sound=True))
    assert set(each_helps("extend-prefix", body)) == {"conditioning_frames 17"}


def test_a_silent_reference_is_told_the_field_that_brings_its_sound(data, tmp_path):
    good, silent = video(tmp_path / "g.mp4", 20, sound=True), video(tmp_path / "s.mp4", 20)
    body = data(a_start=good, a_end=good) | {"number_of_frames": 17, "validation_number_of_frames": 17}
    [message] = planned("ic-lora/av2av", body | previews(reference_video_url=silent))
    assert message.endswith("add one, or give a reference_audio_url with sound")
    sound = tone(tmp_path / "s.wav", 2.0)
    assert planned("ic-lora/av2av", body | previews(reference_video_url=silent, reference_audio_url=sound)) == []


# --- fields that were set and have no effect ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "body", "notes"),
    [
        ("extend-prefix", {}, []),
        (
            "extend-prefix",
            {"audio_preserve_pitch": False, "auto_scale_input": True},
            ["audio_preserve_pitch is ignored: sound is not used without with_audio"],
        ),
        (
            "extend-prefix",
            {"audio_preserve_pitch": False, "with_audio": True},
            ["audio_preserve_pitch is ignored: sound is stretched only with auto_scale_input"],
        ),
        ("extend-prefix", {"audio_preserve_pitch": False, "with_audio": True, "auto_scale_input": True}, []),
        (
            "extend-prefix",
            {"split_input_into_scenes": False, "split_input_duration_threshold": 10},
            ["split_input_duration_threshold is ignored: split_input_into_scenes is off"],
        ),
        (
            "ic-lora/av2av",
            {"split_input_into_scenes": True, "split_input_duration_threshold": 10},
            [
                "split_input_into_scenes is ignored: scenes are not split in this mode; provide pre-split clips",
                "split_input_duration_threshold is ignored: no clip is split in this mode",
            ],
        ),
        (
            "ic-lora/a2a",
            {"auto_scale_input": True, "resolution": "low", "number_of_frames": 17},
            [
                "auto_scale_input is ignored: sound without a picture is never stretched: "
                "it is cut, or skipped where it is too short",
                "number_of_frames, resolution are ignored: this mode has no picture",
            ],
        ),
    ],
)
def test_a_field_that_was_set_and_has_no_effect_is_said_so(endpoint, body, notes):
    assert list(ENDPOINTS[endpoint].read(URL | body).notes) == notes


def test_slow_motion_is_warned_of_without_sound_too(data, tmp_path):
    body = data(a=video(tmp_path / "a.mp4", 7)) | {"number_of_frames": 25, "auto_scale_input": True}
    told = "the target is slowed down 3.6 times to fill 25 frames; use a longer clip"
    assert f"a: {told}" in plan_run(ENDPOINTS["extend-prefix"], ENDPOINTS["extend-prefix"].read(body)).warnings
    longer = data(a=video(tmp_path / "b.mp4", 9)) | {"number_of_frames": 25, "auto_scale_input": True}
    warnings = plan_run(ENDPOINTS["extend-prefix"], ENDPOINTS["extend-prefix"].read(longer)).warnings
    [warning] = [each for each in warnings if "slowed down" in each]
    assert warning.endswith("use a longer clip or lower number_of_frames to 17")
    again = plan_run(ENDPOINTS["extend-prefix"], ENDPOINTS["extend-prefix"].read(longer | {"number_of_frames": 17}))
    assert [each for each in again.warnings if each.startswith("a: ")] == ["a: no caption"]

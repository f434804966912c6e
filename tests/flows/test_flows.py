"""What ends a run early, how it ends, and that it costs nothing. Flows run in process on Prefect's own database."""

import pytest

from flows.endpoints import FLOWS
from schemas.endpoints import ENDPOINTS
from schemas.rejections import ClipTooShort, NothingLeft, SilentClip, UnsupportedFile
from schemas.settings import settings
from tasks.ledger.bills import bills
from tests.support.clips import tone, video, zipped

SMALL = {
    "rank": 8,
    "number_of_steps": 100,
    "resolution": "low",
    "aspect_ratio": "16:9",
    "number_of_frames": 17,
    "validation_resolution": "low",
    "validation_aspect_ratio": "16:9",
    "validation_number_of_frames": 17,
}

pytestmark = pytest.mark.usefixtures("prefect", "files_allowed")


@pytest.fixture
def files_allowed(home, tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()


def zip_of(folder, **files):
    archive = folder / "clips.zip"
    archive.write_bytes(zipped({path.name: path for path in files.values()}))
    return archive.as_uri()


def ended(name, **fields):
    """The state of a run, and its error."""
    endpoint = ENDPOINTS[name]
    shared = {key: value for key, value in SMALL.items() if key in endpoint.request.model_fields}
    state = FLOWS[name](endpoint.read({**shared, **fields}), return_state=True)
    return state, state.result(raise_on_failure=False)


def test_a_rejected_run_is_named_so_and_says_the_422_and_is_not_billed(tmp_path):
    url = zip_of(tmp_path, a=video(tmp_path / "silent.mp4", 20))
    state, error = ended("extend-prefix", training_data_url=url, with_audio=True)
    assert (state.type.value, state.name, state.message) == (
        "FAILED",
        "Rejected",
        "422 silent.mp4: the target clip has no audio track; add one or turn off with_audio",
    )
    assert isinstance(error, SilentClip)
    assert bills() == []


def test_without_with_audio_a_silent_clip_is_no_fault(tmp_path):
    url = zip_of(tmp_path, a=video(tmp_path / "silent.mp4", 8))
    _, error = ended("extend-prefix", training_data_url=url)
    assert isinstance(error, NothingLeft)  # too short, and nothing was said of its silence
    assert str(error).startswith("All training videos are too short to be trainable")


def test_images_are_rejected(tmp_path):
    picture = tmp_path / "still.png"
    picture.write_bytes(b"\x89PNG")
    state, error = ended("extend-prefix", training_data_url=zip_of(tmp_path, a=picture))
    assert isinstance(error, UnsupportedFile)
    assert state.name == "Rejected"


def test_sounds_that_are_all_too_short_leave_nothing(tmp_path):
    url = zip_of(tmp_path, a=tone(tmp_path / "a.wav", 0.5), b=tone(tmp_path / "b.wav", 0.9))
    _, error = ended("audio-extend-prefix", training_data_url=url, audio_duration_seconds=1, conditioning_seconds=0.5)
    assert [detail.type for detail in error.details()] == ["audio_duration_too_short"]
    assert len(error.skipped) == 2


def test_a_validation_clip_shorter_than_its_prefix_is_named_with_its_field(tmp_path):
    url = zip_of(tmp_path, a=video(tmp_path / "a.mp4", 20))
    opening = video(tmp_path / "opening.mp4", 6)
    sample = {"prompt": "on", "video_url": opening.as_uri()}
    _, error = ended("extend-prefix", training_data_url=url, validation=[sample])
    assert isinstance(error, ClipTooShort)
    assert [(d.loc, d.type) for d in error.details()] == [
        (("body", "validation", 0, "video_url"), "video_duration_too_short")
    ]


def test_a_validation_sound_shorter_than_its_prefix_is_named_with_its_field(tmp_path):
    url = zip_of(tmp_path, a=tone(tmp_path / "a.wav", 1.2))
    sample = {"prompt": "on", "audio_url": tone(tmp_path / "opening.wav", 0.3).as_uri()}
    fields = {"audio_duration_seconds": 1, "conditioning_seconds": 0.5, "validation": [sample]}
    _, error = ended("audio-extend-prefix", training_data_url=url, **fields)
    assert [(d.loc, d.type) for d in error.details()] == [
        (("body", "validation", 0, "audio_url"), "audio_duration_too_short")
    ]


def test_a_silent_validation_clip_is_rejected_where_sound_is_continued(tmp_path):
    url = zip_of(tmp_path, a=video(tmp_path / "a.mp4", 20, sound=True))
    sample = {"prompt": "on", "video_url": video(tmp_path / "opening.mp4", 12).as_uri()}
    _, error = ended("extend-prefix", training_data_url=url, with_audio=True, validation=[sample])
    assert isinstance(error, SilentClip)
    assert error.where == ("validation", 0, "video_url")


def test_plain_files_outside_the_allowed_folder_are_not_read(tmp_path):
    state, error = ended("extend-prefix", training_data_url="file:///etc/hostname")
    assert (state.name, [detail.type for detail in error.details()]) == ("Rejected", ["file_download_error"])


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_has_a_flow_with_a_form(name):
    schema = FLOWS[name].parameters.model_dump()
    form = schema["definitions"][ENDPOINTS[name].request.__name__]
    assert form["additionalProperties"] is False
    assert all(field["title"] and field["description"] for field in form["properties"].values())

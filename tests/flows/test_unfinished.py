"""A request that was cut off is known again; one that has ended is not, nor is one that somebody else is running."""

from uuid import uuid4

import pytest

from flows.unfinished import unfinished
from schemas.endpoints import ENDPOINTS
from schemas.errors import TrainingFailed
from schemas.rejections import NothingFound
from schemas.settings import settings

NAME = "audio-extend-prefix"
RUN = uuid4()


def asked(**fields):
    return ENDPOINTS[NAME].read({"training_data_url": "https://host/clips.zip", **fields})


def cut_off(request, error=InterruptedError):
    with pytest.raises(error), unfinished(NAME, request) as note:
        note.begin(RUN)
        raise error("here", ()) if error is NothingFound else error


def continued(request):
    with unfinished(NAME, request) as note:
        return note.first_run()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, TrainingFailed])
def test_a_run_that_was_cut_off_or_failed_is_continued_once(error):
    cut_off(asked(), error)
    assert [continued(asked()), continued(asked())] == [RUN, None]


def test_a_rejected_run_is_over_as_its_data_have_to_change(home):
    cut_off(asked(), NothingFound)
    assert list((home / "runs").iterdir()) == []


def test_another_request_or_another_place_for_its_files_is_another_run(monkeypatch):
    cut_off(asked())
    assert continued(asked(rank=16)) is None
    monkeypatch.setenv("LTX_FLOWS_OUTPUTS", "/elsewhere")
    settings.cache_clear()
    assert continued(asked()) is None


def test_the_same_request_twice_at_a_time_is_two_runs():
    with unfinished(NAME, asked()) as first, unfinished(NAME, asked()) as second:
        assert first.path != second.path


def test_a_note_that_was_cut_off_itself_names_no_run():
    with pytest.raises(InterruptedError), unfinished(NAME, asked()) as note:
        note.path.write_text(str(RUN)[:7])
        raise InterruptedError
    assert continued(asked()) is None

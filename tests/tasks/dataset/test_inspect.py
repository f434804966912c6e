"""A data set is looked at once, and then settled, and suggested for, by rules alone."""

import pytest

from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Track
from tasks.dataset import inspect as inspecting
from tasks.dataset.inspect import inspect
from tasks.dataset.order import Order
from tasks.dataset.rules import settle
from tasks.dataset.suggestions import won_back
from tasks.fit import fit_samples
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=32, frames=25, fps=24))
TRACKS = (Track(role="target", modality="video"),)
FITTING = FitOptions(split_above_seconds=30)
ORDER = Order(BUCKET, TRACKS, FITTING)


@pytest.fixture
def samples(tmp_path):
    """Three clips, of 9, 17 and 33 frames."""
    paths = [clips.video(tmp_path / f"{frames}.mp4", frames) for frames in (9, 17, 33)]
    return tuple(Sample(name=path.stem, caption="", files={"target": clips.kept(path)}) for path in paths)


def test_every_file_is_looked_at_once_whatever_is_suggested_after_it(samples, monkeypatch):
    looked = []
    look = inspecting.look
    monkeypatch.setattr(inspecting, "look", lambda file, *rest: looked.append(file.name) or look(file, *rest))
    fitted = fit_samples(samples, BUCKET, TRACKS, FITTING)
    assert sorted(looked) == ["17.mp4", "33.mp4", "9.mp4"]
    assert {win.parameter for win in fitted.wins} == {"number_of_frames", "auto_scale_input"}


def test_rules_and_suggestions_touch_no_file(samples, home, monkeypatch):
    inspected = inspect(samples, ORDER)
    for file in (home / "store").rglob("*"):
        if file.is_file():
            file.unlink()
    settled = settle(samples, inspected, ORDER)
    assert [one.name for one in settled.samples] == ["33"]
    best = won_back(samples, inspected, settled, ORDER)[0]
    assert (best.parameter, best.value, best.keeps) == ("number_of_frames", 17, 2)

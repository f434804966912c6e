"""A training on its run's page while it goes on: how often, what of, and that it never stands in the training's way."""

import io
from collections import namedtuple

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tasks.base_model import base
from tasks.reports import training_page
from tasks.reports.training_page import TrainingPage
from tasks.training.job import Previewed, Stepped
from tasks.training.still import draw, middle, spectrogram

LATENTS = {"video": torch.zeros(128, 3, 2, 3), "audio": torch.zeros(25, 128)}
Memory = namedtuple("Memory", "available")


@pytest.fixture
def shown(monkeypatch):
    """Cards, as they are drawn."""
    cards = []
    monkeypatch.setattr(
        training_page, "loss_card", lambda losses: cards.append({k: list(v) for k, v in losses.items()})
    )
    monkeypatch.setattr(training_page, "still_card", lambda *card: cards.append(card))
    return cards


@pytest.fixture
def preview(tmp_path):
    """A preview of a picture and its sound."""
    save_file(LATENTS, tmp_path / "100-0.safetensors")
    return Previewed(step=100, sample=0, path=tmp_path / "100-0.safetensors")


def stepped(step, loss):
    return Stepped(step=step, loss=loss, losses={"video": loss}, gradient_norm=1.0, tokens_per_second=1.0)


def test_the_curve_is_drawn_after_a_while_and_then_at_most_every_30_s(shown, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(training_page.time, "monotonic", lambda: clock[0])
    page = TrainingPage("tiny", video=True)
    for step in range(1, 66):
        clock[0] = float(step)
        page(stepped(step, 1.0))
    assert [losses["video"][-1][0] for losses in shown] == [6, 36]


def test_steps_that_are_taken_again_after_an_interruption_count_once(shown, monkeypatch):
    monkeypatch.setattr(training_page, "SECONDS_TO_FIRST_CURVE", 1e9)
    page = TrainingPage("tiny", video=True)
    for step, loss in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 2.5)):
        page(stepped(step, loss))
    assert page.losses == {"video": [(1, 1.0), (2, 2.5)]}


@pytest.mark.long
def test_a_preview_is_drawn_in_a_process_of_its_own(shown, preview, monkeypatch):
    monkeypatch.setattr(training_page, "MEMORY_BESIDE", 0)
    page = TrainingPage(base().location, video=True)
    assert (page._obstacle(), page._draw(preview)) == ("", "")
    ((png, step, sample, what),) = shown
    assert (Image.open(io.BytesIO(png)).size, step, sample, what) == ((96, 64), 100, 0, "A frame of the middle")


def test_a_preview_that_cannot_be_drawn_is_told_and_is_no_fault(shown, preview):
    page = TrainingPage(base().location, video=True)
    preview.path.write_bytes(b"cut off")
    assert "SafetensorError" in page._draw(preview)
    assert shown == []


def test_nothing_is_drawn_where_memory_has_no_room(monkeypatch):
    monkeypatch.setattr(training_page.psutil, "virtual_memory", lambda: Memory(2**30))
    assert TrainingPage(base().location, video=True)._obstacle() == "decoding one takes 6 GiB, 1 GiB are free"


def test_the_end_of_the_training_does_not_wait_for_a_preview(shown, preview, monkeypatch):
    monkeypatch.setattr(training_page, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setattr(training_page, "MEMORY_BESIDE", 0)
    with TrainingPage(base().location, video=True) as page:
        page(preview)
    assert not page.thread.is_alive()


def test_a_sound_has_its_spectrogram(preview, tmp_path):
    save_file({"audio": LATENTS["audio"]}, preview.path)
    draw(base().location, preview.path, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (4 * (4 * 25 - 3), 4 * 64)


def test_of_a_spectrogram_low_tones_are_below_and_loud_is_bright():
    mel = torch.zeros(1, 2, 1, 64)
    mel[..., 0] = 1.0
    assert spectrogram(mel)[:, 0].tolist() == [0] * 252 + [255] * 4


def test_the_frame_is_one_of_the_middle():
    latent = torch.arange(5.0)[None, :, None, None].expand(128, 5, 2, 2)
    assert middle(latent)[0, :, 0, 0].tolist() == [1.0, 2.0]
    assert middle(latent[:, :1]).shape[1] == 1

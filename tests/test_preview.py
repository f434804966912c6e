"""Pictures of the reel."""

import pytest
import torch

from models.preview import beside, caption_band, keep_opening, keep_region, with_band


def plain(value, frames=2, height=32, width=64):
    return torch.full((frames, height, width, 3), value, dtype=torch.uint8)


@pytest.mark.parametrize("width", [64, 544, 961])
def test_a_band_has_its_clips_width_and_an_even_height_whatever_the_text(width):
    bands = [caption_band(width, text) for text in ("", "step 500", "a very long prompt " * 50, "x" * 500)]
    assert len({band.shape for band in bands}) == 1
    height, *rest = bands[0].shape
    assert height % 2 == 0 and rest == [width, 3] and bands[0].dtype == torch.uint8


def test_the_text_is_in_the_band_and_a_long_prompt_stays_inside():
    assert caption_band(320, "").float().std() < caption_band(320, "step 500 a cat").float().std()
    long = caption_band(320, "a very long prompt " * 50)
    assert long[:, -4:].float().std(dim=(0, 1)).max() == 0  # nothing runs into the margin


def test_the_band_is_below_every_frame():
    banded = with_band(plain(200), "step 1")
    assert banded[:, :32].eq(200).all()
    assert banded[0, 32:].equal(caption_band(64, "step 1")) and banded[1].equal(banded[0])


def test_the_opening_is_the_source_exactly():
    kept = keep_opening(plain(9, frames=5), plain(200, frames=2))
    assert kept[:, 0, 0, 0].tolist() == [200, 200, 9, 9, 9]


def test_black_pixels_are_the_source_exactly():
    mask = torch.zeros(2, 32, 64)
    mask[1, 3, 5] = 1.0
    kept = keep_region(plain(9), plain(200), mask)
    assert kept.eq(9).all(-1).nonzero().tolist() == [[1, 3, 5]]
    assert kept.eq(200).sum() == kept.numel() - 3


def test_a_smaller_and_shorter_clip_is_shown_as_large_and_as_long():
    pair = beside(torch.cat([plain(1, 1, 16, 32), plain(2, 1, 16, 32)]), plain(200, frames=4))
    assert pair.shape == (4, 32, 128, 3)
    assert pair[:, 0, 0, 0].tolist() == [1, 1, 2, 2]
    assert pair[:, :, 64:].eq(200).all()

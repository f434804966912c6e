"""Pictures of the reel."""

import pytest
import torch

from models.reel_frames import beside, caption_band, captioned, keep_opening, keep_region


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
    first, second = captioned({"result": plain(200)}, "step 1")
    assert first[:32].eq(200).all() and first[32:].equal(caption_band(64, "step 1"))
    assert second.equal(first)


def test_clips_side_by_side_are_labelled_each_under_its_own_picture():
    [frame] = captioned({"reference": plain(9, 1, width=320), "result": plain(200, 1, width=320)}, "step 1")
    bare = caption_band(640, "step 1", ("", ""))
    assert frame[:32, :320].eq(9).all() and frame[:32, 320:].eq(200).all()
    written = (frame[32:] != bare).any(-1).any(0)
    assert written[:100].any() and written[320:420].any() and not written[200:320].any()


def test_the_opening_is_the_source_exactly():
    kept = keep_opening(plain(9, frames=5), plain(200, frames=2))
    assert kept[:, 0, 0, 0].tolist() == [200, 200, 9, 9, 9]


def test_black_pixels_are_the_source_exactly():
    white = torch.zeros(2, 32, 64, dtype=torch.bool)
    white[1, 3, 5] = True
    kept = keep_region(plain(9), plain(200), white)
    assert kept.eq(9).all(-1).nonzero().tolist() == [[1, 3, 5]]
    assert kept.eq(200).sum() == kept.numel() - 3


def test_a_smaller_and_slower_clip_is_shown_as_large_and_as_long():
    slower = torch.cat([plain(number, 1, 16, 32) for number in (1, 2, 3)])  # frames 0, 1 and 3 of five
    pair = torch.stack(list(beside(slower, plain(200, frames=5))))
    assert pair.shape == (5, 32, 128, 3)
    assert pair[:, 0, 0, 0].tolist() == [1, 2, 2, 3, 3]
    assert pair[:, :, 64:].eq(200).all()


def test_frames_come_one_at_a_time():
    frames = captioned({"a": plain(1, frames=3), "b": plain(2, frames=3)}, "")
    assert [frame.ndim for frame in frames] == [3, 3, 3] and next(frames, None) is None

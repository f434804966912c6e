"""Conditions on tokens with hand-made numbers."""

import pytest
import torch

from models.conditions import Source, condition, keep_prefix, keep_unmasked, prepend_reference
from models.ltx2.geometry import audio_positions, reference_positions, regenerated_cells, video_positions, white_pixels
from models.tokens import Tokens, latent_of, tokens_of
from schemas.errors import ConditionError
from schemas.plan import Mask, Prefix, Reference, generate
from tests.support.tensors import golden_model


def noisy(steps, per_step):
    """All tokens 1 at sigma 0.7; clean ones are 0."""
    length = steps * per_step
    ones = torch.ones(1, length, 4)
    tokens = Tokens(ones, torch.full((1, length), 0.7), torch.zeros(1, 1, length, 2), torch.ones(1, length).bool())
    return tokens, torch.zeros(1, length, 4)


def test_the_prefix_is_given_clean_and_the_rest_is_learned():
    tokens, clean = noisy(steps=4, per_step=6)
    kept = keep_prefix(tokens, clean, steps=1, tokens_per_step=6)
    assert kept.latent[:, :6].eq(0).all() and kept.latent[:, 6:].eq(1).all()
    assert kept.sigma[0].tolist() == pytest.approx([0.0] * 6 + [0.7] * 18)
    assert kept.learn[0].tolist() == [False] * 6 + [True] * 18


def test_a_prefix_that_leaves_nothing_to_generate_is_refused():
    tokens, clean = noisy(steps=2, per_step=6)
    with pytest.raises(ConditionError, match="a prefix of 2 latent steps leaves nothing"):
        keep_prefix(tokens, clean, steps=2, tokens_per_step=6)


def test_cells_outside_the_white_region_are_given_clean():
    tokens, clean = noisy(steps=1, per_step=3)
    kept = keep_unmasked(tokens, clean, torch.tensor([[True, False, True]]))
    assert kept.latent[0, :, 0].tolist() == [1, 0, 1]
    assert kept.sigma[0].tolist() == pytest.approx([0.7, 0, 0.7])
    assert kept.learn[0].tolist() == [True, False, True]


def test_a_mask_of_another_size_is_refused():
    tokens, clean = noisy(steps=1, per_step=3)
    with pytest.raises(ConditionError, match="does not fit"):
        keep_unmasked(tokens, clean, torch.ones(1, 4).bool())


def test_a_mask_without_white_gives_everything_clean():
    tokens, clean = noisy(steps=1, per_step=3)
    kept = keep_unmasked(tokens, clean, torch.zeros(1, 3).bool())
    assert kept.latent.eq(0).all() and not kept.learn.any()


def test_a_reference_stands_in_front_clean_and_without_loss():
    tokens, _ = noisy(steps=1, per_step=3)
    both = prepend_reference(tokens, torch.full((1, 2, 4), 5.0), torch.full((1, 1, 2, 2), 9.0))
    assert both.latent[0, :, 0].tolist() == [5, 5, 1, 1, 1]
    assert both.sigma[0].tolist() == pytest.approx([0, 0, 0.7, 0.7, 0.7])
    assert both.position[0, 0, :, 0].tolist() == [9, 9, 0, 0, 0]
    assert both.learn[0].tolist() == [False, False, True, True, True]


def test_nothing_is_changed_in_place():
    tokens, clean = noisy(steps=2, per_step=1)
    keep_prefix(tokens, clean, steps=1, tokens_per_step=1)
    assert tokens.latent.eq(1).all() and tokens.learn.all()


def test_conditions_apply_in_the_order_of_the_plan():
    tokens, clean = noisy(steps=3, per_step=1)
    source = Source((3, 1, 1), 1.0, clean, reference=torch.full((1, 2, 4), 5.0),
                    learn_cells=torch.tensor([[True, True, False]]))  # fmt: skip
    done = condition(tokens, generate(Prefix(steps=1), Mask(), Reference()), source)
    assert done.latent[0, :, 0].tolist() == [5, 5, 0, 1, 0]
    assert done.learn[0].tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("wanted", [Mask(), Reference()])
def test_a_condition_without_its_clip_is_refused(wanted):
    tokens, clean = noisy(steps=1, per_step=3)
    with pytest.raises(ConditionError, match="needs the sample's"):
        condition(tokens, generate(wanted), Source((3, 1, 1), 1.0, clean))


def test_tokens_are_time_major_and_come_back():
    latent = torch.arange(2 * 3 * 2 * 2.0).reshape(1, 2, 3, 2, 2)
    tokens = tokens_of(latent)
    assert tokens[0, :5, 0].tolist() == [0, 1, 2, 3, 4]
    assert latent_of(tokens, "video", (3, 2, 2)).equal(latent)


def test_positions_are_seconds_and_pixels():
    video = video_positions(steps=2, height=1, width=2, fps=25)
    assert video[0, 0].tolist() == [pytest.approx(each) for each in ([0, 0.04], [0, 0.04], [0.04, 0.36], [0.04, 0.36])]
    assert video[0, 2].tolist() == [[0, 32], [32, 64], [0, 32], [32, 64]]
    assert audio_positions(3)[0, 0].tolist() == [
        pytest.approx(each) for each in ([0, 0.01], [0.01, 0.05], [0.05, 0.09])
    ]


def test_positions_are_those_of_diffusers():
    model = golden_model()
    assert video_positions(5, 2, 3, 24.0).equal(model.rope.prepare_video_coords(1, 5, 2, 3, "cpu", fps=24.0))
    assert audio_positions(127).equal(model.audio_rope.prepare_audio_coords(1, 127, "cpu"))


def test_a_smaller_and_slower_reference_lies_over_the_whole_target():
    position = reference_positions(2, 1, 1, 25.0, downscale=2, temporal_scale=2)
    # frame 0, then frames 1, 3, ..., 15 of the target at 25 fps: the second step ends with target frame 16
    assert position[0, 0].tolist() == [pytest.approx([0, 0.04]), pytest.approx([0.04, 0.68])]
    assert position[0, 1].tolist() == [[0, 64], [0, 64]]


def test_any_white_pixel_of_a_time_group_regenerates_its_cell():
    mask = torch.zeros(17, 64, 64, dtype=torch.bool)
    mask[8, 40, 3] = True  # last frame of the second group, lower left
    mask[9, 0, 63] = True  # first frame of the third, upper right
    assert regenerated_cells(mask).nonzero().tolist() == [[1, 1, 0], [2, 0, 1]]


def test_a_pixel_is_white_when_its_luma_is_above_a_half():
    grey = torch.tensor([0, 127, 128, 255], dtype=torch.uint8)
    assert white_pixels(grey[None, None, :, None].expand(1, 1, 4, 3)).flatten().tolist() == [False, False, True, True]


def test_a_mask_off_the_latent_grid_is_refused():
    with pytest.raises(ConditionError, match="16 frames at 64x64"):
        regenerated_cells(torch.zeros(16, 64, 64, dtype=torch.bool))

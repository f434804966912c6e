"""Noise, loss, and where randomness comes from."""

import pytest
import torch

from models.noising import masked_loss, noised, step_generator


def test_sigma_mixes_clean_and_noise():
    mixed = noised(torch.full((2, 1, 1), 4.0), torch.full((2, 1, 1), 8.0), torch.tensor([[0.0], [0.25]]))
    assert mixed.flatten().tolist() == [4, 5]


def test_the_loss_is_the_mean_over_learned_tokens_only():
    prediction = torch.tensor([[[1.0, 1], [9, 9], [3, 3]]])
    learn = torch.tensor([[True, False, True]])
    assert masked_loss(prediction, torch.zeros_like(prediction), learn).tolist() == pytest.approx([5.0])  # (1 + 9) / 2


def test_where_nothing_is_learned_the_loss_is_zero():
    assert masked_loss(torch.ones(1, 2, 1), torch.zeros(1, 2, 1), torch.zeros(1, 2).bool()).tolist() == [0]


def test_randomness_comes_from_seed_and_step_alone():
    draws = {pair: torch.rand(1, generator=step_generator(*pair)).item() for pair in [(0, 0), (0, 1), (1, 0), (0, -1)]}
    assert len(set(draws.values())) == 4
    assert torch.rand(1, generator=step_generator(0, 1)).item() == draws[0, 1]

"""Noise, loss, and where randomness comes from."""

import pytest
import torch

from models.noise import generator_of, masked_loss, noised


def test_sigma_mixes_clean_and_noise():
    mixed = noised(torch.full((2, 1, 1), 4.0), torch.full((2, 1, 1), 8.0), torch.tensor([[0.0], [0.25]]))
    assert mixed.flatten().tolist() == [4, 5]


def test_the_loss_is_the_mean_over_learned_tokens_only():
    prediction = torch.tensor([[[1.0, 1], [9, 9], [3, 3]]])
    learn = torch.tensor([[True, False, True]])
    assert masked_loss(prediction, torch.zeros_like(prediction), learn).tolist() == pytest.approx([5.0])  # (1 + 9) / 2


def test_where_nothing_is_learned_the_loss_is_zero():
    assert masked_loss(torch.ones(1, 2, 1), torch.zeros(1, 2, 1), torch.zeros(1, 2).bool()).tolist() == [0]


def first_draw(purpose, seed, number):
    return torch.rand(1, generator=generator_of(purpose, seed, number)).item()


def test_randomness_comes_from_purpose_seed_and_number_alone():
    asked = [("noise", 0, 0), ("noise", 0, 1), ("noise", 1, 0), ("order", 0, 0), ("adapter", 0, 0)]
    draws = {one: first_draw(*one) for one in asked}
    assert len(set(draws.values())) == 5
    assert first_draw("noise", 0, 1) == draws["noise", 0, 1]

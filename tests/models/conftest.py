"""What Lightning switches on for one training does not reach the next test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def own_determinism():
    yield
    torch.use_deterministic_algorithms(False)

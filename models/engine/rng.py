"""The random generators of a process: seeded at the start, kept in checkpoints, restored on resume.

Sigma and noise come from generators of their own; these are kept so that no library's draw can tell a resumed run from
an uninterrupted one.
"""

import os
import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Start all generators from one seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # the generators of all devices, too


def repeat_exactly(wanted: bool) -> None:
    """Make the same sums give the same bytes, on a GPU too; to be called before a device is first used.

    torch then also fills every new tensor, to reveal reads of unwritten memory: a kernel for each, switched off here.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the device is first used
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def random_states() -> dict[str, Any]:
    """The states of python, numpy, torch and every CUDA device, in types that load without pickle's code."""
    name, words, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(words, dtype=np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the states of the generators."""
    name, words, position, has_gauss, cached = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])

"""Sweeps of many like cases: the first ones in every `make test`, all of them in `make test-long`."""

import pytest


def swept(values, short):
    """Values for `parametrize`, all but the first ones marked as long."""
    marks = pytest.mark.long
    return [value if number < short else pytest.param(value, marks=marks) for number, value in enumerate(values)]

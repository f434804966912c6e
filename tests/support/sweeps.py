"""Sweeps of many like cases: the first ones in every `make test`, all of them in `make test-long`."""

import pytest


def swept(values, short):
    """Values for `parametrize`, all but the first ones marked as long."""
    cases = [value if isinstance(value, tuple) else (value,) for value in values]
    marks = ((), pytest.mark.long)
    return [pytest.param(*case, marks=marks[number >= short]) for number, case in enumerate(cases)]

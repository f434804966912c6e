"""What is on the server, what we put there last time, and what we would put there now."""

import pytest

from flows.hosting.applied import merged


@pytest.mark.parametrize(
    ("there", "before", "wanted", "result"),
    [
        ("ours", "ours", "newer", "newer"),  # nobody has touched it
        ("theirs", "ours", "newer", "theirs"),
        ("ours", None, "newer", "ours"),  # nobody remembers whose it is
        (["ltx", "mine"], ["ltx"], ["ltx", "gpu"], ["ltx", "mine"]),
        ({"a": 1, "mine": 2}, {"a": 1}, {"a": 3, "new": 4}, {"a": 3, "mine": 2, "new": 4}),
        ({}, {"a": 1}, {"a": 1}, {}),  # somebody has removed it
        ({"old": 1}, {"old": 1}, {}, {}),  # it was ours, and is not needed any more
        ({"old": 2}, {"old": 1}, {}, {"old": 2}),
        ({"env": {"A": "1", "B": "mine"}}, {"env": {"A": "1"}}, {"env": {"A": "2"}}, {"env": {"A": "2", "B": "mine"}}),
    ],
)
def test_what_a_person_changed_stays_and_the_rest_is_brought_up_to_date(there, before, wanted, result):
    assert merged(there, before, wanted) == result

"""Results of steps, kept by one release and read by the next."""

import json

import pytest

from schemas.media import Frozen
from tasks.step import AS_JSON, step

pytestmark = pytest.mark.usefixtures("prefect")


class Counted(Frozen):
    """What a step finds."""

    number: int


def flow_of(work):
    from prefect import flow

    from tasks.storage.results import results_in_store

    @flow
    def counting(number: int) -> list[Counted]:
        with results_in_store():
            return [work(number), work(number)]

    return counting


@pytest.fixture
def counting(home):
    """A flow of one step, done twice with the same argument, and how often it was done."""
    done = []

    @step("count", version=1)
    def count(number: int) -> Counted:
        done.append(number)
        return Counted(number=number)

    return flow_of(count), done


def test_a_result_is_read_back_as_what_it_was(counting):
    flow, done = counting
    assert (flow(3), done) == ([Counted(number=3)] * 2, [3])


def test_a_result_whose_class_has_moved_is_made_again_and_not_taken_as_it_is_written(counting, home):
    flow, done = counting
    flow(3)
    (kept,) = (path for path in (home / "store" / "results" / "count").rglob("*") if path.is_file())
    kept.write_text(kept.read_text().replace(f"{__name__}.Counted", "tasks.gone.Counted"))
    assert flow(3) == [Counted(number=3)] * 2
    assert done == [3, 3]


def test_a_name_of_no_class_is_a_fault():
    with pytest.raises(ValueError, match=r"no class tasks\.gone\.Counted"):
        AS_JSON.loads(json.dumps({"__class__": "tasks.gone.Counted", "data": {"number": 3}}).encode())

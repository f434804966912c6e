"""Results of steps, kept by one release and read by the next."""

import json

import pytest

from flows.rejection import without_tracebacks
from schemas.media import Frozen
from schemas.rejections import SilentClip
from tasks.step import AS_JSON, saying_what_is_reused, step

pytestmark = pytest.mark.usefixtures("prefect")


class Counted(Frozen):
    """What a step finds."""

    number: int


def flow_of(work):
    from prefect import flow

    from tasks.storage.results import results_in_store

    @flow
    def counting(number: int) -> list[Counted]:
        with results_in_store(), saying_what_is_reused():
            return [work(number), work(number)]

    return counting


@pytest.fixture
def counting(home):
    """A flow of one step, done twice with the same argument, and how often it was done."""
    done = []

    @step("count", version=1, says=lambda counted: f"{counted.number} counted")
    def count(number: int) -> Counted:
        done.append(number)
        return Counted(number=number)

    return flow_of(count), done


def test_a_result_is_read_back_as_what_it_was(counting):
    flow, done = counting
    assert (flow(3), done) == ([Counted(number=3)] * 2, [3])


def test_a_step_tells_what_it_did_and_that_it_was_reused(counting, caplog):
    flow, _ = counting
    flow(3)
    assert [line for line in caplog.messages if line.startswith("count")] == [
        "count: 3 counted",
        "count, reused: 3 counted",
    ]


def test_a_run_tells_in_one_line_what_it_reused(counting, caplog):
    flow, _ = counting
    flow(3)
    assert "reused, not done again: count" not in caplog.messages  # it was done, and asked for twice
    flow(3)
    assert "reused, not done again: count" in caplog.messages


def test_the_422s_words_come_before_prefects_on_the_failed_step_and_no_traceback_does(home, caplog):
    without_tracebacks()

    @step("refuse", version=1, says=str)
    def refuse(number: int) -> Counted:
        raise SilentClip("silent.mp4", "target")

    with pytest.raises(SilentClip):
        flow_of(refuse)(3)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert errors[0].message == "422 silent.mp4: the target clip has no audio track; add one"
    assert [record.exc_info for record in errors if record.exc_info] == []


def test_a_step_is_tagged_gpu_where_it_computes_on_one():
    made = [step(name, version=1, says=str, device=device)(len) for name, device in (("train", True), ("fit", False))]
    assert [each.tags for each in made] == [{"gpu"}, set()]


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

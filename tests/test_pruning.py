"""Pruning removes what no recent run needs and what was left half written, and nothing else."""

import os
import time
from pathlib import Path

import pytest

from schemas.media import MediaFile
from tasks.keeping import keep
from tasks.pruning import DAY, HOUR, prune, usage
from tasks.store import store
from tasks.usage import addresses_in, record_usage


def ended_run(*manifests):
    record_usage("run-1", addresses_in(*manifests), ended=True)


def made(tmp_path, content, name):
    path = tmp_path / name.replace("/", "-")
    path.write_text(content)
    return store().publish(path, name)


def age(days):
    """Make everything in the store so many days old."""
    then = time.time() - days * DAY
    for path in Path(store().root).rglob("*"):
        os.utime(path, (then, then))


def contents():
    return sorted(path.read_text() for path in Path(store().root, "blobs").rglob("*") if path.is_file())


def test_what_a_recent_run_used_stays_and_the_rest_goes_with_its_notes(tmp_path):
    used = made(tmp_path, "used", "latents/used")
    made(tmp_path, "forgotten", "latents/forgotten")
    age(days=10)
    ended_run(used)
    assert prune(older_than=7 * DAY, keep_runs=30 * DAY).files == 2
    assert contents() == ["used"]
    assert store().find("latents/used") == used
    assert store().find("latents/forgotten") is None


def test_what_is_young_stays_as_a_run_may_be_under_way(tmp_path):
    made(tmp_path, "new", "latents/new")
    assert prune(older_than=7 * DAY, keep_runs=30 * DAY) == (0, 0)


def test_runs_are_forgotten_after_their_time(tmp_path):
    ended_run(made(tmp_path, "used", "latents/used"))
    age(days=40)
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    assert usage() == {}


def test_media_that_a_run_used_stay(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("clip")
    file = keep(path, "clip.mp4")
    age(days=10)
    ended_run(file)
    assert prune(older_than=7 * DAY, keep_runs=30 * DAY).files == 0
    assert isinstance(file, MediaFile)


def test_half_written_files_go_after_a_day(tmp_path):
    artifact = made(tmp_path, "whole", "latents/whole")
    part = Path(f"{store().root}/{artifact.address}.1234.part")
    part.write_text("half")
    age(days=2)
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    assert not part.exists()
    assert contents() == ["whole"]


def test_a_size_limit_takes_the_oldest_first_but_never_what_is_needed(tmp_path):
    needed = made(tmp_path, "needed" * 100, "latents/needed")
    made(tmp_path, "old" * 100, "latents/old")
    age(days=3)
    made(tmp_path, "newer" * 100, "latents/newer")
    for path in Path(store().root).rglob("*"):
        os.utime(path, (path.stat().st_mtime - 2 * HOUR,) * 2)
    ended_run(needed)
    too_much = sum(size for _, size in usage().values())
    prune(older_than=7 * DAY, keep_runs=30 * DAY, most_bytes=too_much - 100)
    assert contents() == ["needed" * 100, "newer" * 100]


@pytest.mark.parametrize("most_bytes", [None, 0])
def test_an_empty_store_has_nothing_to_prune(most_bytes):
    assert prune(0, 0, most_bytes) == (0, 0)

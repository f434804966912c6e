"""Pruning removes what no recent run needs and what was left half written, and nothing else."""

import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from schemas.endpoints import ENDPOINTS
from schemas.media import MediaFile
from schemas.settings import settings
from tasks import retention as pruning
from tasks.retention import DAY, HOUR, prune, usage
from tasks.storage.store import keep, store
from tasks.storage.usage import addresses_in, record_usage
from tasks.training.job import Finished
from tests.support.clips import tone, zipped


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


# --- runs that are going ------------------------------------------------------------------------------------------


def all_pruned():
    return prune(older_than=-60, keep_runs=60, most_bytes=0)


def test_what_a_run_that_is_going_uses_stays_whatever_is_asked(tmp_path):
    used = made(tmp_path, "used", "latents/used")
    made(tmp_path, "forgotten", "latents/forgotten")
    age(days=10)
    record_usage("run-1", addresses_in(used))
    all_pruned()
    assert contents() == ["used"]


def test_what_a_run_that_is_going_has_just_made_stays_although_it_is_not_noted_yet(tmp_path):
    made(tmp_path, "old", "latents/old")
    age(days=10)
    record_usage("run-1", ())
    made(tmp_path, "new", "latents/new")
    all_pruned()
    assert (contents(), store().find("latents/new") is not None) == (["new"], True)


def test_of_a_run_that_has_ended_only_what_it_used_stays(tmp_path):
    record_usage("run-1", ())
    used = made(tmp_path, "used", "latents/used")
    made(tmp_path, "forgotten", "latents/forgotten")
    record_usage("run-1", addresses_in(used), ended=True)
    all_pruned()
    assert contents() == ["used"]


def test_a_run_that_was_killed_days_ago_holds_up_nothing_for_ever(tmp_path):
    record_usage("run-1", ())
    made(tmp_path, "half of a run", "latents/half")
    age(days=2)
    prune(older_than=DAY, keep_runs=30 * DAY)
    assert contents() == []


def test_reuse_renews_what_is_used(tmp_path):
    record_usage("run-1", addresses_in(made(tmp_path, "used", "latents/used")), ended=True)
    age(days=40)
    record_usage("run-1", ())
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    assert contents() == ["used"]


def test_a_run_that_begins_while_others_are_looked_at_keeps_what_it_uses(tmp_path, monkeypatch):
    used = made(tmp_path, "used", "latents/used")
    age(days=10)
    looked = pruning._going

    def meanwhile(*words):
        record_usage("run-1", addresses_in(used))
        return looked(*words)

    monkeypatch.setattr(pruning, "_going", meanwhile)
    all_pruned()
    assert contents() == ["used"]


def test_results_of_steps_and_pinned_revisions_go_with_their_runs(tmp_path):
    for address in ("results/encode/v2/abc", "pins/run-1", "checkpoints/key/00010.ckpt"):
        store().write_text("{}", address)
    age(days=20)
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    assert sorted(usage()) == ["pins", "results"]
    age(days=40)
    prune(older_than=7 * DAY, keep_runs=30 * DAY)
    assert usage() == {}


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "sounds.zip").write_bytes(zipped({"a.wav": tone(tmp_path / "a.wav", 0.6)}))
    fields = {"audio_duration_seconds": 0.5, "conditioning_seconds": 0.2, "number_of_steps": 100, "rank": 8}
    return {"training_data_url": (tmp_path / "sounds.zip").as_uri(), **fields}


@pytest.mark.usefixtures("prefect")
def test_a_run_that_is_pruned_after_every_step_ends_all_the_same(sounds, monkeypatch):
    """Its training is replaced by one that says that it is done; all else is real, and pruned as hard as can be."""
    from flows import pipeline
    from flows.endpoints import FLOWS
    from tasks import train

    monkeypatch.setattr(train, "train_in_child", trained)
    worked = []

    def pruned_after(name):
        step = getattr(pipeline, name)

        def run(*words, **more):
            result = step(*words, **more)
            all_pruned()
            worked.append(name)
            return result

        return run

    for name in STEPS:
        monkeypatch.setattr(pipeline, name, pruned_after(name))
    request = ENDPOINTS["audio-extend-prefix"].read(sounds)
    for _ in range(2):  # the second time with what the first has left, a month old
        assert FLOWS["audio-extend-prefix"](request).billing.billable_units == 100
        age(days=20)
    assert worked == [*STEPS] * 2


STEPS = ("download", "extract", "match", "fit", "encode", "train", "validate", "upload", "bill")


def trained(job, on_event):
    assert all(path.is_file() for path in job.files.values())
    key = "diffusion_model.transformer_blocks.0.audio_attn1.to_k.lora_A.weight"
    save_file({key: torch.zeros(1, 1)}, job.folder / "lora.safetensors")
    (job.folder / "losses.json").write_text("{}")
    return [Finished(adapter=job.folder / "lora.safetensors", losses=job.folder / "losses.json", previews=())]

"""Artifacts appear whole, are found by what they were made from, and are missed when they are gone or damaged.

All of it on a local folder and on a real S3 server.
"""

import subprocess
import sys
import tracemalloc

import pytest
from pydantic import ValidationError

from schemas.errors import StoreDamaged
from schemas.media import Picture
from schemas.settings import settings
from tasks.retention import prune, usage
from tasks.storage.store import Artifact, Store, keep, key_of, store
from tasks.storage.usage import addresses_in, record_usage

pytestmark = pytest.mark.usefixtures("kind")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "made.bin"
    path.write_bytes(b"latent")
    return path


def ended_run(*manifests):
    record_usage("run-1", addresses_in(*manifests), ended=True)


def overwrite(artifact, content):
    store().place.fs.pipe_file(f"{store().root}/{artifact.address}", content)


def addresses():
    return sorted(file.address for file in store().place.files())


def test_what_is_published_is_found_and_read_back(file):
    artifact = store().publish(file, "latents/a")
    assert store().find("latents/a") == artifact
    with store().local(artifact) as path:
        assert path.read_bytes() == b"latent"


def test_another_process_finds_it(file):
    artifact = store().publish(file, "latents/a")
    assert Store(settings().store_url).find("latents/a") == artifact


def test_the_same_content_is_kept_once_under_any_number_of_names(file):
    assert store().publish(file, "latents/a") == store().publish(file, "latents/b")
    assert len([address for address in addresses() if address.startswith("blobs/")]) == 1


def test_a_second_writer_of_a_name_never_mixes_with_the_first(file):
    first = store().publish(file, "latents/a")
    file.write_bytes(b"another")
    second = store().publish(file, "latents/a")
    assert store().find("latents/a") == second
    with store().local(first) as path:
        assert path.read_bytes() == b"latent"


def test_many_writers_at_once_leave_whole_artifacts(file, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tasks.storage.store import store\n"
        "path = Path(sys.argv[1])\n"
        "for n in range(20): path.write_text(f'{n % 4}' * 999); store().publish(path, f'a/{n}')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / str(number)]) for number in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    for number in range(20):
        with store().local(store().find(f"a/{number}")) as path:
            assert path.read_text() == f"{number % 4}" * 999
    assert len(addresses()) == 4 + 20


def test_a_manifest_whose_artifact_is_gone_is_no_manifest(file):
    artifact = store().publish(file, "latents/a")
    store().remove(artifact.address)
    assert store().find("latents/a") is None
    with pytest.raises(ValidationError, match="artifact gone"):
        Artifact.model_validate(artifact.model_dump())


def test_what_is_gone_when_it_is_read_is_made_anew(file):
    artifact = store().publish(file, "latents/a")
    store().remove(artifact.address)
    with pytest.raises(StoreDamaged, match="is gone; run again"), store().local(artifact):
        pass


def test_a_changed_artifact_is_noticed_when_it_is_read_and_is_made_anew(file):
    artifact = store().publish(file, "latents/a")
    overwrite(artifact, b"latenT")
    with pytest.raises(StoreDamaged, match="differed"), store().local(artifact):
        pass
    assert store().find("latents/a") is None
    assert store().publish(file, "latents/a") == artifact


@pytest.mark.parametrize("note", [b"", b"{", b'{"artifact": {}}', b"\xff", b'{"artifact": null, "seconds": "long"}'])
def test_a_note_that_cannot_be_read_is_none(file, note):
    store().publish(file, "latents/a")
    store().place.fs.pipe_file(f"{store().root}/latents/a.json", note)
    assert store().find("latents/a") is None


def test_publishing_leaves_nothing_half_written(file, home):
    artifact = store().publish(file, "latents/a")
    assert addresses() == [artifact.address, "latents/a.json"]
    assert list((home / "tmp").glob("*")) == []


def test_two_stores_in_one_bucket_or_folder_do_not_see_each_other(file):
    artifact = store().publish(file, "latents/a")
    other = Store(f"{settings().store_url}-of-others")
    assert (other.size(artifact.address), list(other.place.files())) == (None, [])


def test_usage_counts_files_and_bytes_by_kind(file):
    store().publish(file, "latents/a")
    assert usage()["blobs"] == (1, 6)
    assert usage()["latents"][0] == 1


def test_pruning_takes_what_no_run_needs_and_leaves_the_rest(file):
    used = store().publish(file, "latents/used")
    file.write_bytes(b"forgotten")
    store().publish(file, "latents/forgotten")
    media = keep(file, "clip.wav")
    ended_run(used, media)
    assert prune(older_than=-60, keep_runs=60).files == 2
    assert (store().find("latents/used"), store().find("latents/forgotten")) == (used, None)
    with store().media(media.sha256) as path:
        assert path.read_bytes() == b"forgotten"


def test_pruning_stops_at_a_note_of_a_run_that_it_cannot_read(file):
    artifact = store().publish(file, "latents/a")
    store().write_text("{", "runs/run-1.json")
    with pytest.raises(StoreDamaged, match=r"runs/run-1.json cannot be read; remove it"):
        prune(older_than=-60, keep_runs=60)
    assert store().find("latents/a") == artifact


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path):
    large = tmp_path / "latent.safetensors"
    with large.open("wb") as out:
        out.truncate(64 << 20)
    tracemalloc.start()
    try:
        with store().local(store().publish(large, "latents/large")):
            _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 << 20  # on S3 two parts of 8 MiB at a time, and the copies of them that its client makes


def test_keys_depend_on_content_alone():
    picture = Picture(width=64, height=64, frames=17, fps=24)
    assert key_of(picture, {"b": 1, "a": 2}) == key_of(picture.model_copy(), {"a": 2, "b": 1})
    assert key_of(picture) != key_of(picture.model_copy(update={"frames": 9}))

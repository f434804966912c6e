"""Artifacts appear whole, are found by what they were made from, and are missed when they are gone or damaged."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.errors import StoreDamaged
from schemas.media import Picture
from tasks.store import Artifact, key_of, store


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "made.bin"
    path.write_bytes(b"latent")
    return path


def place(artifact):
    return Path(f"{store().root}/{artifact.address}")


def test_what_is_published_is_found_and_read_back(file):
    artifact = store().publish(file, "latents/a")
    assert store().find("latents/a") == artifact
    with store().local(artifact) as path:
        assert path.read_bytes() == b"latent"


def test_the_same_content_is_kept_once_under_any_number_of_names(file):
    assert store().publish(file, "latents/a") == store().publish(file, "latents/b")
    assert len([path for path in Path(store().root, "blobs").rglob("*") if path.is_file()]) == 1


def test_a_second_writer_of_a_name_never_mixes_with_the_first(file):
    first = store().publish(file, "latents/a")
    file.write_bytes(b"another")
    second = store().publish(file, "latents/a")
    assert store().find("latents/a") == second
    with store().local(first) as path:
        assert path.read_bytes() == b"latent"


def test_a_manifest_whose_artifact_is_gone_is_no_manifest(file):
    artifact = store().publish(file, "latents/a")
    place(artifact).unlink()
    assert store().find("latents/a") is None
    with pytest.raises(ValidationError, match="artifact gone"):
        Artifact.model_validate(artifact.model_dump())


def test_a_changed_artifact_is_noticed_when_it_is_read_and_is_made_anew(file):
    artifact = store().publish(file, "latents/a")
    place(artifact).write_bytes(b"latenT")
    with pytest.raises(StoreDamaged, match="differed"), store().local(artifact):
        pass
    assert store().find("latents/a") is None


def test_publishing_leaves_nothing_half_written(file):
    artifact = store().publish(file, "latents/a")
    left = sorted(str(path.relative_to(store().root)) for path in Path(store().root).rglob("*") if path.is_file())
    assert left == [artifact.address, "latents/a.json"]


def test_keys_depend_on_content_alone():
    picture = Picture(width=64, height=64, frames=17, fps=24)
    assert key_of(picture, {"b": 1, "a": 2}) == key_of(picture.model_copy(), {"a": 2, "b": 1})
    assert key_of(picture) != key_of(picture.model_copy(update={"frames": 9}))

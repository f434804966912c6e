"""Artifacts appear whole, are named by what they were made from, and are missed when they are gone."""

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


def test_what_is_published_is_found_and_read_back(file):
    artifact = store().publish(file, "latents/a.bin")
    assert store().find("latents/a.bin") == artifact
    with store().local(artifact) as path:
        assert path.read_bytes() == b"latent"


def test_a_manifest_whose_artifact_is_gone_is_no_manifest(file):
    artifact = store().publish(file, "latents/a.bin")
    store().fs.rm(f"{store().root}/latents/a.bin")
    assert store().find("latents/a.bin") is None
    with pytest.raises(ValidationError, match="artifact gone"):
        Artifact.model_validate(artifact.model_dump())


def test_a_changed_artifact_is_noticed_when_it_is_read(file):
    artifact = store().publish(file, "latents/a.bin")
    Path(f"{store().root}/latents/a.bin").write_bytes(b"latenT")
    with pytest.raises(StoreDamaged, match="differs"), store().local(artifact):
        pass


def test_publishing_leaves_nothing_half_written(file):
    store().publish(file, "latents/a.bin")
    assert sorted(path.name for path in Path(f"{store().root}/latents").iterdir()) == ["a.bin", "a.bin.json"]


def test_keys_depend_on_content_alone():
    picture = Picture(width=64, height=64, frames=17, fps=24)
    assert key_of(picture, {"b": 1, "a": 2}) == key_of(picture.model_copy(), {"a": 2, "b": 1})
    assert key_of(picture) != key_of(picture.model_copy(update={"frames": 9}))

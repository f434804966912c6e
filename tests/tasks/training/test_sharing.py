"""A training whose machine is lost goes on, on another one, from the checkpoint that it left in the store."""

import os
import signal
import time
from uuid import uuid4

import pytest
import torch

from schemas.errors import TrainingInterrupted
from schemas.settings import settings
from tasks import train as train_module
from tasks.manifests import EncodedSample, LatentFile, Latents
from tasks.storage.store import store
from tasks.training.job import Previewed, Saved, Started
from tasks.training.sharing import Sharing
from tests.support.trainings import PLAN, SHORT, bytes_of, children, published, trained

pytestmark = pytest.mark.slow(seconds=40)


@pytest.fixture
def team(s3, monkeypatch, tmp_path):
    """A store that all machines reach."""
    monkeypatch.setenv("LTX_FLOWS_STORE", f"s3://data/{uuid4()}")
    settings.cache_clear()


def machine(monkeypatch, folder):
    """Be on a machine of one's own."""
    monkeypatch.setenv("LTX_FLOWS_HOME", str(folder))
    settings.cache_clear()


@pytest.fixture
def latents(team, tmp_path):
    torch.manual_seed(0)
    text = published(tmp_path / "text", video=torch.randn(8, 64), audio=torch.randn(8, 32))
    video = published(tmp_path / "video", latent=torch.randn(128, 2, 2, 2))
    audio = published(tmp_path / "audio", latent=torch.randn(10, 128))
    files = (
        LatentFile(role="target", modality="video", artifact=video, fps=24),
        LatentFile(role="target", modality="audio", artifact=audio, steps=9),
    )
    sample = EncodedSample(name="a", prompt="a", fps=24, latents=files, context=text)
    return Latents(samples=(sample,), previews=(sample,), negative=text)


def shared():
    return sorted(file.address.split("/", 2)[2] for file in store().place.files("checkpoints"))


@pytest.mark.long  # two machines
def test_a_lost_machines_training_goes_on_on_another_one_and_ends_in_the_same_bytes(latents, tmp_path, monkeypatch):
    machine(monkeypatch, tmp_path / "whole")
    whole = trained(latents)
    monkeypatch.setattr(train_module, "_finished", lambda key: None)

    def lose(event):
        if isinstance(event, Saved) and event.step == 4:
            deadline = time.monotonic() + 60
            while "00003.ckpt" not in shared() and time.monotonic() < deadline:
                time.sleep(0.05)
            for child in children():
                os.kill(child, signal.SIGKILL)

    machine(monkeypatch, tmp_path / "lost")
    with pytest.raises(TrainingInterrupted):
        trained(latents, on_event=lose)
    assert set(shared()) >= {"last.json", "previews/00000-0.safetensors"}
    machine(monkeypatch, tmp_path / "other")
    events = []
    again = trained(latents, on_event=events.append)
    assert next(event.step for event in events if isinstance(event, Started)) >= 3
    assert [event.step for event in events if isinstance(event, Previewed)] == [SHORT.steps]
    assert bytes_of(again.weights) == bytes_of(whole.weights)
    assert [bytes_of(p.latents) for p in again.previews] == [bytes_of(p.latents) for p in whole.previews]
    assert shared() == []
    assert PLAN.modalities == ("video", "audio")


def test_a_checkpoint_that_is_damaged_on_its_way_is_not_gone_on_from(latents, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    sharing = Sharing("key", folder)
    (folder / "00005.copy").write_bytes(b"checkpoint")
    sharing.newest = 5
    sharing._send(Saved(step=5))
    assert shared() == ["00005.ckpt", "last.json"]
    store().place.fs.pipe_file(f"{store().root}/checkpoints/key/00005.ckpt", b"checkpoinT")
    Sharing("key", tmp_path / "elsewhere").restore()
    assert not (tmp_path / "elsewhere" / "last.ckpt").exists()


def test_of_a_store_that_is_this_machines_own_nothing_is_shared(home):
    assert not Sharing.needed()


def test_a_store_that_takes_nothing_does_not_hold_up_the_training(team, tmp_path, monkeypatch, caplog):
    from schemas.errors import StoreUnavailable

    def fail(*words):
        raise StoreUnavailable("s3://data does not answer")

    monkeypatch.setattr("tasks.storage.folder.Place.put", fail)
    (tmp_path / "00001.copy").write_bytes(b"checkpoint")
    sharing = Sharing("key", tmp_path)
    with sharing.sending():
        sharing.hear(Saved(step=1))
        deadline = time.monotonic() + 20
        while "could not be shared" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "s3://data does not answer); the training goes on" in caplog.text

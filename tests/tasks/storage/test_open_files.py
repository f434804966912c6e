"""Large data sets on a remote store, at a quarter of the files that a process may usually have open."""

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import save

from schemas.media import Bucket
from schemas.plan import Plan, Prefix, generate
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks import train
from tasks.base_model import Base, Precision
from tasks.manifests import EncodedSample, LatentFile, Latents
from tasks.storage.claims import Claims
from tasks.storage.store import Artifact, store
from tasks.train import train_adapter
from tasks.training.job import Finished
from tests.support.faults import Faulty

SAMPLES, OPEN_FILES = 5000, 256
PLAN = Plan(audio=generate(Prefix(steps=2)))
MODEL = Base(id="tiny", fingerprints={"transformer": "weights"})


@pytest.fixture(autouse=True)
def few_open_files():
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_all_clips_of_a_run_can_be_claimed_at_once():
    names = [f"latents/video/{number}" for number in range(SAMPLES)]
    with Claims() as claims, Claims() as others:
        assert claims.take(names) == names
        assert others.take(names) == []
        claims.release(names[7])
        assert others.take(names) == names[7:8]


@pytest.fixture
def remote_store(tmp_path, monkeypatch):
    """A store whose files have to be fetched before they can be read."""
    monkeypatch.setenv("LTX_FLOWS_STORE", f"{Faulty.protocol}://{tmp_path}/store")
    settings.cache_clear()
    return store().place


def test_a_training_reads_all_samples_from_a_remote_store(remote_store, monkeypatch):
    monkeypatch.setattr(train, "train_in_child", trained)
    samples = tuple(encoded(remote_store, number) for number in range(SAMPLES))
    latents = Latents(samples=samples)
    previewing = Previewing(plan=PLAN, bucket=Bucket(seconds=0.4), stg_scale=1.0)
    training = Training(rank=4, steps=3, learning_rate=1e-3)
    precision = Precision(dtype="torch.float32", text_encoder="bf16")
    adapter = train_adapter(latents, (PLAN,) * SAMPLES, training, previewing, MODEL, precision, lambda event: None)
    assert adapter.weights.size > 0


def encoded(place, number):
    latent = published(place, save({"latent": torch.full((2, 2), float(number))}))
    files = (LatentFile(role="target", modality="audio", artifact=latent, steps=2),)
    return EncodedSample(name=str(number), prompt="", fps=1.0, latents=files, context=latent)


def published(place, content):
    digest = hashlib.sha256(content).hexdigest()
    address = f"blobs/{digest[:2]}/{digest}.safetensors"
    place.write(content, address)
    return Artifact(address=address, sha256=digest, size=len(content))


def trained(job, on_event):
    """In place of the training process: all that it would read is there at the same time."""
    assert len({job.path(file.artifact) for sample in job.samples for file in sample.latents}) == SAMPLES
    assert all(path.is_file() for path in job.files.values())
    (job.folder / "lora.safetensors").write_bytes(b"lora")
    (job.folder / "losses.json").write_text(json.dumps({}))
    return [Finished(adapter=job.folder / "lora.safetensors", losses=job.folder / "losses.json", previews=())]

"""A training on two devices: two processes of Lightning DDP on the CPU, over gloo."""

import pytest
import torch
from lightning import Trainer

from models.engine.batches import Feed
from models.engine.trainer import LoraTraining, Schedule, trainer_options
from models.ltx2.adapter import add_adapter
from tasks.training.callbacks import read_samples
from tasks.training.job import Previewed, Started, Stepped
from tasks.training.process import train_in_child
from tests.support.jobs import job_of
from tests.support.tensors import CPU, PLANS, tiny_transformer

pytestmark = pytest.mark.slow(seconds=40)


def alone(job):
    """What one device makes of batches of two: its weights."""
    schedule = Schedule(steps=job.steps, learning_rate=job.learning_rate, seed=job.seed, batch=2)
    transformer = tiny_transformer()
    add_adapter(transformer, job.rank, job.plans[0].modalities, job.seed)
    module = LoraTraining(transformer, schedule)
    samples = list(read_samples(job))
    Trainer(**trainer_options(schedule, CPU)).fit(module, Feed(samples, schedule, CPU))
    return module.state_dict()


@pytest.mark.long
def test_two_devices_train_as_one_does_on_both_their_samples(tmp_path):
    job = job_of(PLANS["both prefixes"], tmp_path / "job", clips=4, devices=2, previews=True)
    events = train_in_child(job, lambda event: None)
    trained = torch.load(job.folder / "last.ckpt", weights_only=True)["state_dict"]
    for key, weight in alone(job).items():
        torch.testing.assert_close(trained[key], weight, rtol=0, atol=2e-5)
    assert sum(isinstance(event, Started) for event in events) == 1
    assert [event.step for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4, 5]
    assert [event.step for event in events if isinstance(event, Previewed)] == [0, 5]

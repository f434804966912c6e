"""What is switched on this machine and changes a result is part of the step's key: nothing old is reused after it."""

import pytest
from prefect import flow

from models.ltx2 import loading as models
from schemas.media import Bucket
from schemas.plan import Plan, Prefix, generate
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks.base_model import Precision, base, precision
from tasks.encode import encode
from tasks.storage.results import results_in_store
from tasks.train import train
from tasks.validate import validate

PLAN = Plan(audio=generate(Prefix(steps=2)))


@flow
def encoding():
    with results_in_store():
        return encode((), "", (), "", base(), precision(), return_state=True).name


@pytest.mark.usefixtures("prefect")
def test_after_a_switch_of_the_text_encoders_weights_prompts_are_encoded_anew(monkeypatch):
    assert [encoding(), encoding()] == ["Completed", "Cached"]
    monkeypatch.setenv("LTX_FLOWS_TEXT_ENCODER_WEIGHTS", "int8")
    settings.cache_clear()
    assert [encoding(), encoding()] == ["Completed", "Cached"]


@pytest.mark.usefixtures("prefect")
def test_after_a_switch_of_the_device_clips_are_encoded_anew(monkeypatch):
    assert [encoding(), encoding()] == ["Completed", "Cached"]
    monkeypatch.setattr(models, "pick_dtype", lambda device: models.torch.bfloat16)
    assert [encoding(), encoding()] == ["Completed", "Cached"]


@pytest.mark.parametrize("step", [encode, train, validate], ids=lambda step: step.name)
def test_every_step_that_computes_through_the_model_is_told_how_precisely(step):
    keys = {
        step.cache_key_fn(None, {"precision": Precision(dtype=dtype, text_encoder=kept)}) for dtype, kept in SWITCHES
    }
    assert len(keys) == len(SWITCHES)
    assert "precision" in step.fn.__wrapped__.__annotations__


SWITCHES = (("torch.float32", "bf16"), ("torch.bfloat16", "bf16"), ("torch.float32", "int8"))


@pytest.mark.parametrize(
    "change", [{"BASE_WEIGHTS": "int8"}, {"COMPILE": "on"}, {"DETERMINISTIC": "false"}, {"DEVICES": "2"}]
)
def test_what_is_switched_of_a_training_is_part_of_its_key(change, monkeypatch):
    def key():
        training = Training(rank=8, steps=100, learning_rate=1e-3)
        previewing = Previewing(plan=PLAN, bucket=Bucket(seconds=1.0), stg_scale=1.0)
        return train.cache_key_fn(None, {"training": training, "previewing": previewing})

    before = key()
    for name, value in change.items():
        monkeypatch.setenv(f"LTX_FLOWS_{name}", value)
    settings.cache_clear()
    assert key() != before

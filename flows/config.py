"""The config_file of a run, besides the adapter itself: enough to use the LoRA, and to train it again."""

from dataclasses import asdict
from typing import Any

from models.sampler import Guidance
from schemas.endpoint import Endpoint
from schemas.redaction import without_secrets
from schemas.request import TrainRequest
from schemas.training import Previewing, Training
from tasks.base_model import Base


def training_config(
    endpoint: Endpoint[Any], request: TrainRequest, training: Training, previewing: Previewing, model: Base
) -> dict[str, Any]:
    """The config as plain values; URLs lose their query, where signatures and keys are."""
    guidance = asdict(Guidance(stg=request.stg_scale))
    return {
        "training_type": endpoint.name,
        "trigger_phrase": request.trigger_phrase,
        "request": without_secrets(request.model_dump(mode="json")),
        "base_model": {
            "id": model.id,
            "revision": model.revision,
            "fingerprint": model.fingerprints["transformer"],
            "random_weights": model.random_weights,
        },
        "training": training.model_dump(mode="json"),
        "sampler": {name: value for name, value in guidance.items() if name != "stg_block"},  # the adapter knows it
        "preview_bucket": previewing.bucket.model_dump(mode="json"),
        "plan": previewing.plan.model_dump(mode="json"),
    }

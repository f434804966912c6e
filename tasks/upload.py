"""Finished files -> OUTPUTS under the run's id, with links that a client can open."""

import json
import mimetypes
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from safetensors import safe_open

from models.sampler import stg_block_of
from schemas.media import Frozen
from schemas.result import DatasetReport, File
from schemas.settings import settings
from schemas.store_errors import StoreUnavailable
from tasks.page import page
from tasks.place import Place
from tasks.step import step
from tasks.store import Artifact, file_sha256, store, temporary_folder
from tasks.train import Adapter
from tasks.validate import Reel

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "lightning", "prefect", "ltx-flows")
TYPES = {".safetensors": "application/octet-stream", ".wav": "audio/wav"}


class Delivery(Frozen):
    """The files of a run, where its user finds them."""

    lora_file: File
    config_file: File
    video: File | None
    audio: File | None
    debug_dataset: File | None
    dataset_report: File


class Outputs:
    """The folder of one run under OUTPUTS."""

    def __init__(self, run_id: str) -> None:
        self.place = Place(settings().outputs_url)
        self.run_id = run_id

    def put(self, path: Path, name: str) -> File:
        """Publish a file under its final name, read back and compared; doing it again replaces it by the same.

        Raises:
            StoreUnavailable: what arrived is not what was sent.
        """
        final = f"{self.run_id}/{name}"
        self.place.put(path, final)
        if self.place.sha256(final) != file_sha256(path):
            self.place.remove(final)
            raise StoreUnavailable(f"{self.place.url}/{final} arrived damaged; run again")
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        url = self.place.link(final, settings().link_seconds)
        return File(url=url, content_type=kind, file_name=name, file_size=path.stat().st_size)

    def tidy(self) -> None:
        """Remove what a killed try of this run has left half written."""
        for file in self.place.files(self.run_id):
            if file.address.endswith(".part"):
                self.place.remove(file.address)

    def put_artifact(self, artifact: Artifact, name: str) -> File:
        with store().local(artifact) as path:
            return self.put(path, name)

    def put_json(self, content: Any, name: str) -> File:
        return self.put_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", name)

    def put_text(self, text: str, name: str) -> File:
        with temporary_folder() as folder:
            path = folder / name
            path.write_text(text, encoding="utf-8")
            return self.put(path, name)


def describe_adapter(weights: Artifact) -> dict[str, Any]:
    """Targets and shapes of a LoRA file, its metadata, and what it was trained with."""
    with store().local(weights) as path, safe_open(path, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  # not a mapping
        metadata = file.metadata() or {}
    layers = {key.split(".")[2] for key in shapes}
    targets = sorted({key.split(".lora_")[0].split(".", 3)[3] for key in shapes})
    return {
        "adapter": {"targets": targets, "shapes": shapes, "metadata": metadata},
        "stg_block": stg_block_of(len(layers)),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def upload_results(
    run_id: str, adapter: Adapter, reel: Reel, report: DatasetReport, config: dict[str, Any], debug: Artifact | None
) -> Delivery:
    """Put everything that a run made where its user finds it."""
    outputs = Outputs(run_id)
    outputs.tidy()
    preview = outputs.put_artifact(reel.file, f"preview{reel.suffix}") if reel.file else None
    outputs.put_text(page(report), "dataset_report.html")  # beside its JSON, for people
    return Delivery(
        lora_file=outputs.put_artifact(adapter.weights, "lora.safetensors"),
        config_file=outputs.put_json(config | describe_adapter(adapter.weights), "config.json"),
        video=preview if reel.suffix == ".mp4" else None,
        audio=preview if reel.suffix == ".wav" else None,
        debug_dataset=outputs.put_artifact(debug, "debug_dataset.zip") if debug else None,
        dataset_report=outputs.put_json(report.model_dump(mode="json"), "dataset_report.json"),
    )


@step("upload", version=1, retry_delay_seconds=[5, 30, 120])
def upload(
    run_id: str, adapter: Adapter, reel: Reel, report: DatasetReport, config: dict[str, Any], debug: Artifact | None
) -> Delivery:
    """LoRA, config, preview, report and debug data set to OUTPUTS."""
    delivery = upload_results(run_id, adapter, reel, report, config, debug)
    get_run_logger().info("uploaded to %s/%s", settings().outputs_url, run_id)
    return delivery

"""Finished files -> OUTPUTS under the run's id, with links that a client can open."""

import json
import mimetypes
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from prefect import get_run_logger
from safetensors import safe_open

from models.sampler import stg_block_of
from schemas.media import Frozen
from schemas.result import DatasetReport, File
from schemas.settings import settings
from tasks.base import base
from tasks.page import page
from tasks.step import step
from tasks.store import Artifact, put_whole, store, temporary_folder
from tasks.train import Adapter
from tasks.validate import Reel

LINK_SECONDS = 7 * 24 * 3600  # S3's longest
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
        self.fs, root = fsspec.url_to_fs(settings().outputs_url)
        self.folder = f"{root}/{run_id}"

    def put(self, path: Path, name: str) -> File:
        """Publish a file under its final name; doing it again replaces it by the same."""
        final = f"{self.folder}/{name}"
        put_whole(self.fs, path, final)
        local = isinstance(self.fs, LocalFileSystem)
        url = Path(final).as_uri() if local else self.fs.sign(final, expiration=LINK_SECONDS)
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return File(url=url, content_type=kind, file_name=name, file_size=path.stat().st_size)

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
    model = base()
    return {
        "base_model": {
            "id": model.id,
            "fingerprint": model.fingerprints["transformer"],
            "random_weights": model.random_weights,
        },
        "adapter": {"targets": targets, "shapes": shapes, "metadata": metadata},
        "stg_block": stg_block_of(len(layers)),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def upload_results(
    run_id: str, adapter: Adapter, reel: Reel, report: DatasetReport, config: dict[str, Any], debug: Artifact | None
) -> Delivery:
    """Put everything that a run made where its user finds it."""
    outputs = Outputs(run_id)
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

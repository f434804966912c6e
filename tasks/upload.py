"""Upload: finished files -> OUTPUTS under the run's id, with links that a client can open."""

from importlib.metadata import version
from typing import Any

from prefect import get_run_logger
from safetensors import safe_open

from models.ltx2.spec import stg_block_of
from schemas.report import DatasetReport
from schemas.settings import settings
from tasks.ledger.bills import open_ledger
from tasks.manifests import Adapter, Delivery, Reel
from tasks.reports.dataset_page import page
from tasks.reports.loss_curve import loss_curve, numbered
from tasks.reports.run_page import losses_of
from tasks.step import effect
from tasks.storage.outputs import Outputs, open_outputs
from tasks.storage.store import Artifact, store

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "lightning", "prefect", "ltx-flows")


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
    run_id: str,
    adapter: Adapter,
    reel: Reel,
    report: DatasetReport,
    config: dict[str, Any],
    debug: Artifact | None,
    warnings: tuple[str, ...] = (),
) -> Delivery:
    """Put all files of a run under OUTPUTS, where its user finds them."""
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
        loss_curve=outputs.put_text(loss_curve(numbered(losses_of(adapter))), "loss_curve.svg"),
        samples=report.counts,
        warnings=warnings,
        checksums=outputs.checksums,  # of all above: arguments are evaluated in their order
    )


@effect("look at outputs and ledger", [5, 30, 60])
def open_places(run_id: str) -> None:
    """Check that the run can be delivered and billed, before anything is spent."""
    open_outputs(run_id)
    open_ledger()


@effect("upload", [5, 30, 120])
def upload(
    run_id: str,
    adapter: Adapter,
    reel: Reel,
    report: DatasetReport,
    config: dict[str, Any],
    debug: Artifact | None,
    warnings: tuple[str, ...],
) -> Delivery:
    """Upload LoRA, config, preview, report, loss curve and debug data set to OUTPUTS."""
    delivery = upload_results(run_id, adapter, reel, report, config, debug, warnings)
    log, names = get_run_logger(), ", ".join(delivery.checksums)
    log.info("%d files uploaded to %s/%s: %s", len(delivery.checksums), settings().outputs_url, run_id, names)
    return delivery

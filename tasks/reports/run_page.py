"""A run's page on Prefect: artifacts for the dataset report, loss curve, previews, files, bill and warnings.

All are shown by the board, which may leave them out and never fails a run. They are made by the run, not inside of its
steps, so that they are there where a step comes from the cache, too.
"""

import base64
import json
from collections.abc import Mapping
from uuid import UUID

from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

from schemas.report import DatasetReport, FileOutcome
from schemas.result import TrainingResult
from schemas.settings import settings
from tasks.board import board
from tasks.manifests import Adapter, Delivery, Reel
from tasks.media.ffmpeg import still
from tasks.reports.loss_curve import Points, loss_curve, numbered
from tasks.storage.file_links import browser_link
from tasks.storage.folder import Place
from tasks.storage.store import Artifact, store

DELIVERED = {  # fields of a delivery, by their keys on the page
    "lora": "lora_file",
    "config": "config_file",
    "reel": "video",
    "reel-sound": "audio",
    "report": "dataset_report",
    "debug-archive": "debug_dataset",
    "loss-curve-file": "loss_curve",
}


def dataset_card(report: DatasetReport) -> None:
    """Show one row per file of the archive: its outcome and why; then warnings, and what would win back more."""
    captions = {sample.name: sample.caption for sample in report.samples}
    rows = [_fate(file, captions.get(file.sample or "", "") if file.role == "target" else "") for file in report.files]
    warnings = [{"file": "", "fate": "warning", "reason": text} for text in report.warnings]
    wins = "".join(f"; {win}" for win in report.wins)
    description = f"{report.kept} samples kept{wins}"
    board().show(
        "dataset report",
        lambda: create_table_artifact([*rows, *warnings], key="dataset-report", description=description),
    )


def _fate(file: FileOutcome, caption: str) -> dict[str, str]:
    return {
        "file": file.file,
        "fate": file.fate,
        "sample": file.sample or "",
        "role": file.role or "",
        "reason": file.reason,
        "caption": caption,
    }


def warning_card(warnings: tuple[str, ...]) -> None:
    """Show what whoever looks at the results has to know first."""
    if warnings:
        text = "".join(f"> **Warning:** {each}\n\n" for each in warnings)
        _put("warning", text, "Read this before you judge the results")


def training_cards(adapter: Adapter) -> None:
    """Show a finished training: the LoRA, which is there already, and the whole loss curve."""
    link_card("lora", adapter.weights, "lora.safetensors", "The LoRA")
    board().show("loss-curve", lambda: _draw_curve(numbered(losses_of(adapter))))


def losses_of(adapter: Adapter) -> dict[str, list[float | None]]:
    """The losses of a finished training, by modality."""
    with store().local(adapter.losses) as path:
        return dict(json.loads(path.read_text()))


def loss_card(losses: Mapping[str, Points]) -> None:
    """Show the losses so far, by modality."""
    known = {name: list(points) for name, points in losses.items()}
    board().show("loss-curve", lambda: _draw_curve(known))


def _draw_curve(losses: Mapping[str, Points]) -> None:
    last = {name: points[-1] for name, points in losses.items() if points}
    text = f"![loss over steps]({_data('image/svg+xml', loss_curve(losses).encode())})\n\n" + "; ".join(
        f"{name}: {value:.4f} at step {step}" for name, (step, value) in last.items()
    )
    _put_now("loss-curve", text, "Loss of each modality over the steps")


def still_card(png: bytes, step: int, sample: int, what: str) -> None:
    """Show the latest preview of a training that goes on."""
    title = f"validation sample {sample + 1} after step {step}"
    text = f"![{title}]({_data('image/png', png)})\n\n{what}, {title}. The reel is made when the training has ended."
    _put("previews", text, "The latest preview")


def preview_cards(reel: Reel) -> None:
    """Show a finished reel's last frame and a link to the whole; sound alone has no picture."""
    if file := reel.file:
        name = f"preview{reel.suffix}"
        link_card("reel" if reel.suffix == ".mp4" else "reel-sound", file, name, "The reel of all previews")
        board().show("previews", lambda: _draw_reel(file, reel.suffix, store().place, file.address))


def _draw_reel(reel: Artifact, suffix: str, place: Place, address: str) -> None:
    """Draw the last preview, over a link to where the reel lies."""
    where = _link(place, address, f"preview{suffix}")
    picture = f"![last preview]({_data('image/png', _last_frame(reel))})\n\n" if suffix == ".mp4" else ""
    _put_now("previews", f"{picture}The whole reel: {where}\n", "The last preview of the reel")


def link_card(key: str, artifact: Artifact, name: str, about: str) -> None:
    """Show a link to a file of the store, as soon as the file exists."""
    _show_link(key, store().place, artifact.address, name, about)


def delivery_cards(run_id: str, delivery: Delivery, reel: Reel) -> None:
    """Show links to all delivered files, in place of those to the store, which prunes what is old."""
    place = Place(settings().outputs_url)
    for key, field in DELIVERED.items():
        if file := getattr(delivery, field):
            name = file.file_name
            _show_link(key, place, f"{run_id}/{name}", name, f"{name}, {file.file_size:,} bytes")
    if made := reel.file:
        board().show("previews", lambda: _draw_reel(made, reel.suffix, place, f"{run_id}/preview{reel.suffix}"))


def bill_card(result: TrainingResult) -> None:
    """Show the run's bill."""
    bill = result.billing.model_dump()
    text = (
        "| units | USD per step | USD |\n| --- | --- | --- |\n"
        f"| {bill['billable_units']} | {bill['usd_per_step']} | **{bill['usd']}** |\n\n"
        "All bills: `ltx-flows bills`\n"
    )
    _put("bill", text, f"{bill['usd']} USD for {bill['billable_units']} units")


def _show_link(key: str, place: Place, address: str, name: str, about: str) -> None:
    board().show(f"link {key}", lambda: _put_now(key, _link(place, address, name), about))


def _link(place: Place, address: str, name: str) -> str:
    """A link that a browser opens, as Markdown; a path where this page's server cannot reach the file."""
    url = browser_link(place, address, name)
    return f"[{name}]({url})" if url else f"`{place.url}/{address}`"


def _last_frame(reel: Artifact) -> bytes:
    with store().local(reel) as path:
        return still(path)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _put(key: str, text: str, about: str) -> None:
    board().show(key, lambda: _put_now(key, text, about))


def _put_now(key: str, text: str, about: str) -> None:
    """Write a card of this run: the one that it has already under this key, so that a run that goes on has no two."""
    mine = ArtifactFilter(
        key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(runtime.flow_run.id)])
    )
    with get_client(sync_client=True) as client:
        for there in client.read_artifacts(artifact_filter=mine, limit=1):
            client.update_artifact(there.id, ArtifactUpdate(data=text, description=about))
            return
    create_markdown_artifact(text, key=key, description=about)

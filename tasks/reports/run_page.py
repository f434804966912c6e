"""A run's page: dataset report, loss curve and previews as Prefect artifacts."""

import base64
from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from schemas.report import DatasetReport, FileOutcome
from tasks.board import board
from tasks.media.ffmpeg import still
from tasks.storage.store import Artifact, store

CURVE_POINTS = 200
WIDTH, HEIGHT, MARGIN = 640, 240, 28


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


def loss_card(measured: dict[str, list[float | None]]) -> None:
    """Show each modality's loss over the steps, smoothed, as a picture that the UI can render; None is left out."""
    losses = {name: [value for value in values if value is not None] for name, values in measured.items()}
    image = base64.b64encode(_curve(losses).encode()).decode()
    last = ", ".join(f"{name} {values[-1]:.4f}" for name, values in losses.items() if values)
    text = f"![loss over steps](data:image/svg+xml;base64,{image})\n\nLast step: {last}"
    about = "Loss of each modality over the steps"
    board().show("loss curve", lambda: create_markdown_artifact(text, key="loss-curve", description=about))


def preview_card(reel: Artifact, suffix: str) -> None:
    """Show the reel's last frame and where the reel is; sound alone has no picture."""
    where = f"`{store().url}/{reel.address}`"
    picture = ""
    if suffix == ".mp4":
        with store().local(reel) as path:
            picture = f"![last preview](data:image/png;base64,{base64.b64encode(still(path)).decode()})\n\n"
    text, about = f"{picture}The whole reel: {where}", "The last preview of the reel"
    board().show("previews", lambda: create_markdown_artifact(text, key="previews", description=about))


def _curve(losses: dict[str, list[float]]) -> str:
    smoothed = {name: _smooth(values) for name, values in losses.items() if values}
    top = max((max(values) for values in smoothed.values()), default=1.0) or 1.0
    lines = [
        _line(values, top, colour)
        for values, colour in zip(smoothed.values(), ("#2b6cb0", "#c05621", "#2f855a"), strict=False)
    ]
    names = " / ".join(smoothed)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(lines)}'
        f'<text x="{MARGIN}" y="16" font-size="12">{names} (0 to {top:.3f})</text></svg>'
    )


def _line(values: Sequence[float], top: float, colour: str) -> str:
    across = (WIDTH - 2 * MARGIN) / max(len(values) - 1, 1)
    up = (HEIGHT - 2 * MARGIN) / top
    points = " ".join(f"{MARGIN + i * across:.1f},{HEIGHT - MARGIN - v * up:.1f}" for i, v in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _smooth(values: list[float]) -> list[float]:
    """Means of equal stretches, so that a long training gives a picture of the same size."""
    stretch = max(1, len(values) // CURVE_POINTS)
    chunks = [values[i : i + stretch] for i in range(0, len(values), stretch)]
    return [sum(chunk) / len(chunk) for chunk in chunks]

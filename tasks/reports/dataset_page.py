"""The dataset report as a page to read: one self-contained HTML file."""

from collections.abc import Iterator
from html import escape

from schemas.report import DatasetReport, FileOutcome

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1a202c }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .35rem .6rem }
tr { border-bottom: 1px solid #e2e8f0 } td { overflow-wrap: anywhere }
td:nth-child(1) { min-width: 9rem } td:nth-child(2), td:nth-child(4) { white-space: nowrap }
.kept { color: #276749 } .skipped { color: #c05621 } .ignored, .caption { color: #718096 }
"""
COLUMNS = ("file", "outcome", "sample", "role", "what is seen and heard", "reason and warnings", "caption")
FATES = ("skipped", "kept", "caption", "ignored")  # what was lost comes first


def page(report: DatasetReport) -> str:
    """The HTML page: kept samples, what one change would win back, warnings, and every file."""
    captions = {sample.name: sample.caption for sample in report.samples}
    ordered = sorted(report.files, key=lambda row: FATES.index(row.fate))
    rows = "\n".join(_row(fate, captions) for fate in ordered)
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Dataset report</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{_counted(report)}</h1>\n"
        f"<p>All clips are fit to {escape(_bucket(report))}.</p>\n"
        f"{_list('What would win back more', [f'{win} samples' for win in report.wins])}"
        f"{_list('Worth a look', report.warnings)}"
        f"<h2>Every file of the archive</h2>\n{table}\n</body></html>\n"
    )


def _counted(report: DatasetReport) -> str:
    ignored = len(report.ignored)
    files = "1 file" if ignored == 1 else f"{ignored} files"
    samples = "1 sample" if report.kept == 1 else f"{report.kept} samples"
    return f"{samples} kept, {len(report.skipped)} skipped; {files} ignored"


def _bucket(report: DatasetReport) -> str:
    picture = report.bucket.picture
    if picture is None:
        return f"{report.bucket.seconds:g} s of sound"
    return (
        f"{picture.width} x {picture.height} pixels, {picture.frames} frames, {picture.fps:g} per second where retimed"
    )


def _list(title: str, texts: list[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h2>{title}</h2>\n<ul>{items}</ul>\n" if texts else ""


def _row(fate: FileOutcome, captions: dict[str, str]) -> str:
    texts = [fate.reason, *fate.warnings] if fate.reason else fate.warnings
    caption = captions.get(fate.sample or "", "") if fate.role == "target" else ""
    cells = (
        fate.file,
        fate.fate,
        fate.sample or "",
        fate.role or "",
        "; ".join(_windows(fate)),
        "; ".join(texts),
        caption,
    )
    return f'<tr class="{fate.fate}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _windows(fate: FileOutcome) -> Iterator[str]:
    if seen := fate.video:
        yield f"{seen.frames} frames at {seen.fps:.5g} fps from {seen.start_seconds:.3g} s"
    if heard := fate.audio:
        slower = f", {heard.stretch:.3g} times as long" if heard.stretch != 1 else ""
        louder = f", gain {heard.gain:.3g}" if heard.gain not in (None, 1) else ""
        yield f"sound from {heard.start_seconds:.3g} s, {heard.seconds:.4g} s{slower}{louder}"

"""Cards on a run's page: shown once however often they are drawn, with what a page of ours and Prefect's needs."""

import base64
import re
from decimal import Decimal

import pytest

from schemas.media import Bucket
from schemas.report import DatasetReport, FileOutcome
from schemas.result import Billing, TrainingResult
from tasks.board import board
from tasks.reports.run_page import bill_card, link_card, loss_card, still_card, warning_card
from tasks.storage.store import store

pytestmark = pytest.mark.usefixtures("prefect")
FILE = {"url": "file:///x", "content_type": "text/plain", "file_name": "x", "file_size": 1}


def shown_by(draw):
    """The cards of a run that draws, by key, and how many there are."""
    from prefect import flow, runtime
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    @flow
    def drawing() -> str:
        draw()
        board().drain(20)
        return runtime.flow_run.id

    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[drawing()]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=mine)
    assert len({each.key for each in found}) == len(found)
    return {each.key: each.data for each in found}


def test_a_curve_that_grows_is_one_card_with_one_picture_of_it():
    def draw():
        for last in (2, 3):
            loss_card({"video": [(step, 1 / step) for step in range(1, last + 1)]})
            board().drain(20)

    text = shown_by(draw)["loss-curve"]
    (picture,) = re.findall(r"!\[[^]]*\]\(data:image/svg\+xml;base64,([^)]+)\)", text)
    assert base64.b64decode(picture).startswith(b"<svg")
    assert text.endswith("video: 0.3333 at step 3")


def test_the_latest_preview_is_a_picture():
    text = shown_by(lambda: still_card(b"png", 100, 0, "A frame of the middle"))["previews"]
    assert re.findall(r"!\[[^]]*\]\(data:image/png;base64,([^)]+)\)", text) == [base64.b64encode(b"png").decode()]
    assert "validation sample 1 after step 100" in text


def test_where_no_browser_could_open_a_file_its_place_is_told(tmp_path):
    (tmp_path / "lora").write_bytes(b"lora")
    lora = store().publish(tmp_path / "lora", "adapters/x/lora.safetensors")
    shown = shown_by(lambda: link_card("lora", lora, "lora.safetensors", "The LoRA"))
    assert shown["lora"] == f"`{store().url}/{lora.address}`"


def test_the_bill_and_what_has_to_be_known_first_are_shown():
    result = TrainingResult(
        lora_file=FILE, config_file=FILE, dataset_report=FILE, billing=Billing.of(100, Decimal("0.0062"))
    )

    def draw():
        warning_card(("its previews are noise",))
        bill_card(result)

    shown = shown_by(draw)
    assert "| 100 | 0.0062 | **0.62** |" in shown["bill"]
    assert shown["warning"].startswith("> **Warning:** its previews are noise")


def test_a_result_of_the_release_before_is_read():
    bill = {"billable_units": 100, "usd_per_step": "0.0062", "usd": "0.62"}
    old = TrainingResult.model_validate(
        {"lora_file": FILE, "config_file": FILE, "dataset_report": FILE, "billing": bill}
    )
    assert (old.loss_curve, old.samples, old.warnings) == (None, None, ())


def test_the_result_counts_samples_kept_skipped_and_warned_of():
    rows = [("a", "target", ["w"]), ("a", "reference", ["w"]), ("b", "target", [])]
    files = [FileOutcome(file=f"{n}{r}", fate="kept", role=r, sample=n, warnings=w) for n, r, w in rows]
    skipped = [{"name": "c", "reason": "too short"}]
    report = DatasetReport(kept=2, skipped=skipped, samples=[], bucket=Bucket(seconds=1.0), files=files)
    assert report.counts.model_dump() == {"kept": 2, "skipped": 1, "warned": 1}

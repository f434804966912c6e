"""`ltx-flows plan`: everything up to fitting, from probes alone. No Prefect, no encoder, no torch, no cost."""

from typing import Any

from models.ltx2.bundle import RANDOM_WEIGHTS, is_tiny
from schemas.endpoint import Endpoint
from schemas.faults import together
from schemas.plan import Plan
from schemas.rejections import TRAINING_DATA
from schemas.report import PlanAnswer
from schemas.request import TrainRequest
from schemas.settings import settings
from tasks.dataset.archive import extract_archive
from tasks.dataset.inspect import inspect
from tasks.dataset.matching import match_samples
from tasks.dataset.order import Order
from tasks.dataset.preview_rules import settle_given, with_media
from tasks.dataset.rules import settle
from tasks.dataset.suggestions import won_back
from tasks.manifests import Fitted, Matched
from tasks.media.workers import each
from tasks.reports.dataset_report import dataset_report
from tasks.sources.fetch import fetch


def plan_run(endpoint: Endpoint[Any], request: TrainRequest) -> PlanAnswer:
    """The samples that a run of this request would train on, and its cost.

    Raises:
        InputRejected: for the reasons that would end the run, all of them, as far as probing shows them.
    """
    bucket, shown = request.bucket, request.preview_bucket
    plan, preview_plan = endpoint.plan(request, bucket), endpoint.plan(request, shown)
    (matched, fitted), _ = together(
        lambda: _training_data(endpoint, request, plan), lambda: _check_previews(request, preview_plan)
    )
    report = dataset_report(matched, fitted, bucket, request.notes)
    price = endpoint.price(request.number_of_steps)
    if is_tiny(settings().base_model):
        report.warnings.append(RANDOM_WEIGHTS)
    known = report.model_dump(exclude={"files": {"__all__": {"audio": {"gain"}}}})  # gains are found by decoding
    return PlanAnswer(**known, billable_units=price.billable_units, usd=price.usd)


def _training_data(endpoint: Endpoint[Any], request: TrainRequest, plan: Plan) -> tuple[Matched, Fitted]:
    archive = fetch(request.training_data_url, TRAINING_DATA)
    matched = match_samples(extract_archive(archive), endpoint.layout)
    order = Order(request.bucket, plan.tracks, request.fitting)
    inspected = inspect(matched.samples, order)
    settled = settle(matched.samples, inspected, order)
    return matched, settled.model_copy(update={"wins": won_back(matched.samples, inspected, settled, order)})


def _check_previews(request: TrainRequest, plan: Plan) -> None:
    previews = with_media(request.previews, plan.given_tracks, fetch)
    each(lambda preview: settle_given(preview, plan, request.preview_bucket, request.preview_fitting), previews)

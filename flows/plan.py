"""`ltx-flows plan`: everything up to fitting, from probes alone. No Prefect, no encoder, no torch, no cost."""

from typing import Any

from schemas.endpoint import Endpoint
from schemas.errors import TRAINING_DATA
from schemas.preview import GivenFile, PreviewSample
from schemas.request import TrainRequest
from schemas.result import PlanAnswer
from tasks.extracting import extract_archive
from tasks.fetching import fetch
from tasks.given import settle_given
from tasks.matching import match_samples
from tasks.report import dataset_report
from tasks.settling import settle_samples


def plan_run(endpoint: Endpoint[Any], request: TrainRequest) -> PlanAnswer:
    """What a run of this request would train on, and what it would cost.

    Raises:
        InputRejected: for the reasons that would end the run, as far as probing shows them.
    """
    bucket, shown = request.bucket, request.preview_bucket
    plan, preview_plan = endpoint.plan(request, bucket), endpoint.plan(request, shown)
    matched = match_samples(extract_archive(fetch(request.training_data_url, TRAINING_DATA)), endpoint.layout)
    fitted = settle_samples(matched.samples, bucket, plan.tracks, request.fitting)
    for index, sample in enumerate(request.previews):
        tracks = sample.given(preview_plan.given_tracks, ("validation", index))
        given = tuple(GivenFile(track=track, file=fetch(url, where), where=where) for track, url, where in tracks)
        preview = PreviewSample(name=f"preview {index + 1}", prompt=sample.prompt, given=given)
        settle_given(preview, preview_plan, shown, request.fitting)
    report = dataset_report(matched, fitted, bucket, request.notes)
    price = endpoint.price(request.number_of_steps)
    return PlanAnswer(**report.model_dump(exclude={"ignored"}), billable_units=price.billable_units, usd=price.usd)

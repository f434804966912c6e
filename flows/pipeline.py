"""The pipeline, written once: download, extract, match, fit, encode, train, validate, upload, bill."""

from typing import Any, NamedTuple
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.states import Cancelled, Failed

from flows.cancellation import called_off
from flows.config import training_config
from flows.pulse import alive
from flows.rejection import without_tracebacks
from schemas.endpoint import Endpoint
from schemas.errors import SettingsUnreadable, StoreDamaged
from schemas.faults import together
from schemas.media import MediaFile
from schemas.plan import Plan
from schemas.rejections import TRAINING_DATA, InputRejected
from schemas.request import TrainRequest
from schemas.result import TrainingResult
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks.base_model import base_model_of, precision
from tasks.bill import bill
from tasks.board import board
from tasks.dataset.preview_rules import with_media
from tasks.debug_dataset import debug_dataset
from tasks.download import download
from tasks.encode import encode
from tasks.extract import extract
from tasks.fit import fit, fit_previews
from tasks.ledger.outcomes import tell_rejection
from tasks.manifests import Extracted, Fitted, Matched
from tasks.match import match
from tasks.reports.dataset_report import dataset_report
from tasks.reports.run_page import (
    bill_card,
    dataset_card,
    delivery_cards,
    preview_cards,
    training_cards,
    warning_card,
)
from tasks.run_id import current_run
from tasks.step import Usage, saying_what_is_reused
from tasks.storage.home import private_home
from tasks.storage.results import results_in_store
from tasks.train import train
from tasks.upload import open_places, upload
from tasks.validate import validate

Outcome = TrainingResult | State[TrainingResult]
SECONDS_TO_SHOW = 5.0  # what is left to show at the end of a run
MOST_DAMAGES = 20  # that one run mends; the disk itself is broken where there are more


class Data(NamedTuple):
    """The training data, ready to be encoded."""

    matched: Matched
    clips: Fitted


def train_lora(endpoint: Endpoint[Any], request: TrainRequest) -> TrainingResult:
    """Download, extract, match, fit, encode, train, validate, upload, bill."""
    run_id = str(current_run())
    used = Usage(run_id)
    bucket, shown = request.bucket, request.preview_bucket
    plan, preview_plan = endpoint.plan(request, bucket), endpoint.plan(request, shown)
    training = Training(rank=request.rank, steps=request.number_of_steps, learning_rate=request.learning_rate)
    previewing = Previewing(plan=preview_plan, bucket=shown, stg_scale=request.stg_scale)

    open_places(run_id)
    (matched, clips), openings = together(
        lambda: training_data(endpoint, request, plan, used), lambda: opening_media(request, preview_plan, used)
    )
    report = dataset_report(matched, clips, bucket, (*request.notes, *map(str, openings.warnings)))
    dataset_card(report)
    model, computed = base_model_of(settings().base_model), precision()
    warning_card(model.warnings)
    phrase, negative = request.trigger_phrase, request.validation_negative_prompt
    latents = encode(clips.samples, phrase, openings.samples, negative, model, computed)
    used.note(latents)
    plans = tuple(endpoint.plan(request, bucket.at(clip.fps)) for clip in clips.samples)  # at each clip's own rate
    adapter = train(latents, plans, training, previewing, model, computed)
    used.note(adapter)
    training_cards(adapter)
    reel = validate(adapter, openings.samples, preview_plan, shown, model, computed)
    preview_cards(reel)
    debug = debug_dataset(clips.samples, plans, phrase) if request.debug_dataset else None
    used.note(reel, *([debug] if debug else []))
    config = training_config(endpoint, request, training, previewing, model)
    delivery = upload(run_id, adapter, reel, report, config, debug, model.warnings)
    delivery_cards(run_id, delivery, reel)
    result = bill(delivery, run_id, endpoint.name, endpoint.price(request.number_of_steps))
    bill_card(result)
    used.end()
    return result


def training_data(endpoint: Endpoint[Any], request: TrainRequest, plan: Plan, used: Usage) -> Data:
    """The archive's samples, fitted as the model will see them."""
    archive: MediaFile = download(request.training_data_url, TRAINING_DATA)
    files: Extracted = extract(archive)
    used.note(archive, files)
    matched: Matched = match(files, endpoint.layout)
    return Data(matched, fit(matched.samples, request.bucket, plan.tracks, request.fitting))


def opening_media(request: TrainRequest, plan: Plan, used: Usage) -> Fitted:
    """The fitted files of validation samples, from which previews are generated."""
    previews = with_media(request.previews, plan.given_tracks, download)
    used.note(*(given.file for preview in previews for given in preview.given))
    fitted: Fitted = fit_previews(previews, plan, request.preview_bucket, request.preview_fitting)
    return fitted


def run_endpoint(endpoint: Endpoint[Any], request: TrainRequest) -> Outcome:
    """The whole run. Wrong data end it red, named Rejected, with the 422's own words, without retries."""
    try:
        settings()
    except SettingsUnreadable as error:  # of this worker: its lines are all that there is to say
        return Failed(message=f"on this worker, {error}", data=error)
    private_home()
    without_tracebacks()
    if called_off(UUID(runtime.flow_run.id)):
        return Cancelled(message="cancelled before it began")
    try:
        with results_in_store(), alive(), saying_what_is_reused():
            return _mended(endpoint, request)
    except InputRejected as error:
        get_run_logger().error("422 %s; nothing is billed. Mend the data and press Retry, or submit again", error)
        tell_rejection(str(runtime.flow_run.id), error)
        return Failed(name="Rejected", message=f"422 {error}", data=error)
    finally:
        board().drain(SECONDS_TO_SHOW)
        APILogHandler().flush()  # else clients of a quick run hear of its end before its last lines


def _mended(endpoint: Endpoint[Any], request: TrainRequest) -> TrainingResult:
    """Run the pipeline, and again from the step whose artifact was damaged.

    A damaged artifact is removed when it is noticed: the next pass makes it anew, and takes the rest from the cache.
    """
    damages: list[str] = []
    while True:
        try:
            return train_lora(endpoint, request)
        except StoreDamaged as damage:
            damages.append(str(damage))
            if damages.count(str(damage)) > 1 or len(damages) > MOST_DAMAGES:
                raise
            get_run_logger().warning("%s; going through the steps once more", damage)

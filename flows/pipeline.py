"""The sentence, once: download, extract, match, fit, encode, train, validate, upload, bill."""

from typing import Any
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.states import Cancelled, Failed

from flows.cancellation import called_off
from flows.config import training_config
from schemas.endpoint import Endpoint
from schemas.errors import TRAINING_DATA, InputRejected, StoreDamaged
from schemas.plan import Plan
from schemas.preview import GivenFile, PreviewSample
from schemas.request import TrainRequest
from schemas.result import TrainingResult
from tasks.base import ENCODERS, base
from tasks.bill import bill
from tasks.cards import dataset_card
from tasks.debug import debug_dataset
from tasks.download import download
from tasks.encode import encode
from tasks.extract import extract
from tasks.fit import fit, fit_previews
from tasks.match import match
from tasks.outcomes import tell_rejection
from tasks.pruning import note_run
from tasks.report import dataset_report
from tasks.train import Previewing, Training, train
from tasks.upload import upload
from tasks.validate import validate

Outcome = TrainingResult | State[TrainingResult]


def train_lora(endpoint: Endpoint[Any], request: TrainRequest) -> TrainingResult:
    """Download, extract, match, fit, encode, train, validate, upload, bill."""
    run_id = str(runtime.flow_run.id)
    model = base()
    bucket, shown = request.bucket, request.preview_bucket
    plan, preview_plan = endpoint.plan(request, bucket), endpoint.plan(request, shown)
    training = Training(rank=request.rank, steps=request.number_of_steps, learning_rate=request.learning_rate)
    previewing = Previewing(plan=preview_plan, bucket=shown, stg_scale=request.stg_scale)

    archive = download(request.training_data_url, TRAINING_DATA)
    given = download_given(request, preview_plan)
    files = extract(archive)
    matched = match(files, endpoint.layout)
    clips = fit(matched.samples, bucket, plan.tracks, request.fitting)
    openings = fit_previews(given, preview_plan, shown, request.fitting)
    report = dataset_report(matched, clips, bucket, (*request.notes, *openings.warnings), plan)
    dataset_card(report)
    latents = encode(
        clips.samples,
        request.trigger_phrase,
        openings.samples,
        request.validation_negative_prompt,
        model.weights(*ENCODERS),
    )
    plans = tuple(endpoint.plan(request, bucket.at(clip.fps)) for clip in clips.samples)  # at each clip's own rate
    adapter = train(latents, plans, bucket, training, previewing, model.weights("transformer"))
    reel = validate(adapter, openings.samples, preview_plan, shown, model.weights("vae", "audio_vae", "vocoder"))
    debug = debug_dataset(clips.samples, plans, request.trigger_phrase) if request.debug_dataset else None
    note_run(run_id, archive, files, given, clips, openings, latents, adapter, reel)  # pruning spares what it used
    delivery = upload(run_id, adapter, reel, report, training_config(endpoint, request, training, previewing), debug)
    return bill(delivery, run_id, endpoint.name, endpoint.price(request.number_of_steps))


def download_given(request: TrainRequest, plan: Plan) -> tuple[PreviewSample, ...]:
    """The media of the validation samples."""
    return tuple(
        PreviewSample(
            name=f"preview {index + 1}",
            prompt=sample.prompt,
            given=tuple(
                GivenFile(track=track, file=download(url, where), where=where)
                for track, url, where in sample.given(plan.given_tracks, ("validation", index))
            ),
        )
        for index, sample in enumerate(request.previews)
    )


def run_endpoint(endpoint: Endpoint[Any], request: TrainRequest) -> Outcome:
    """The whole run. Data that is wrong ends it red, named Rejected, with the 422's own words, not tried again.

    A damaged artifact was removed when it was noticed; going through the steps once more makes it anew and finds the
    rest in the cache.
    """
    if called_off(UUID(runtime.flow_run.id)):
        return Cancelled(message="cancelled before it began")
    try:
        try:
            return train_lora(endpoint, request)
        except StoreDamaged as damage:
            get_run_logger().warning("%s; going through the steps once more", damage)
            return train_lora(endpoint, request)
    except InputRejected as error:
        tell_rejection(str(runtime.flow_run.id), error)
        return Failed(name="Rejected", message=f"422 {error}", data=error)
    finally:
        APILogHandler().flush()  # else clients of a quick run hear of its end before its last lines

"""Preview latents of a training -> one reel to look at and listen to."""

from collections.abc import Callable
from pathlib import Path

from prefect import get_run_logger

from schemas.media import Bucket, FittedSample, Frozen
from schemas.plan import Plan
from tasks.base_model import Base, Precision
from tasks.reel import Decoders, Segment, write_audio_reel, write_video_reel
from tasks.reports.run_page import preview_card
from tasks.step import Progress, step
from tasks.storage.store import Artifact, key_of, store, temporary_folder
from tasks.train import Adapter

VERSION = 3  # of how a reel is made: raise it when one looks or sounds different


class Reel(Frozen):
    """The combined preview; `file` is None where the request has no validation samples."""

    file: Artifact | None
    suffix: str = ""


def make_reel(
    adapter: Adapter,
    samples: tuple[FittedSample, ...],
    plan: Plan,
    bucket: Bucket,
    decoders: Decoders,
    progress: Callable[[int, int], None],
) -> Reel:
    """Decode every preview of the training and join them in the order of the steps."""
    segments = [Segment(p.step, samples[p.sample], p.latents) for p in adapter.previews]
    if not segments:
        return Reel(file=None)
    suffix = ".mp4" if plan.video else ".wav"
    weights, dtype = decoders.model.weights("vae", "audio_vae", "vocoder"), decoders.precision.dtype
    address = f"reels/{key_of(VERSION, adapter, samples, plan, bucket, weights, dtype)}{suffix}"
    reel = store().find(address)
    if reel is None:
        with temporary_folder() as folder:
            path = Path(folder / f"reel{suffix}")
            write = write_video_reel if plan.video else write_audio_reel
            write(path, segments, plan, bucket, decoders, progress)
            reel = store().publish(path, address)
    return Reel(file=reel, suffix=suffix)


@step("validate", version=4)
def validate(
    adapter: Adapter,
    samples: tuple[FittedSample, ...],
    plan: Plan,
    bucket: Bucket,
    model: Base,
    precision: Precision,
) -> Reel:
    """The reel of all previews, from before the first step to the last."""
    progress = Progress("validate", "Previews decoded")
    reel = make_reel(adapter, samples, plan, bucket, Decoders(model, precision), progress)
    progress(1, 1)
    if reel.file:
        preview_card(reel.file, reel.suffix)
    get_run_logger().info("%d previews in the reel", len(adapter.previews))
    return reel

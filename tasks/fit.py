"""Fit: settle for every clip exactly what the model will see, and check that it decodes."""

from schemas.media import Bucket, FittedSample, Fitting, Sample
from schemas.plan import Plan, Track
from schemas.preview import PreviewSample
from tasks.fitting import fit_given, fit_samples
from tasks.given import settle_given
from tasks.looking import each
from tasks.settling import Fitted, settle_samples
from tasks.step import Progress, step

__all__ = ["Fitted", "fit", "fit_given", "fit_previews", "fit_samples", "settle_given", "settle_samples"]


@step("fit", version=2)
def fit(samples: tuple[Sample, ...], bucket: Bucket, tracks: tuple[Track, ...], fitting: Fitting) -> Fitted:
    """Samples -> what is seen of each; those that are too short are skipped with their reason."""
    return fit_samples(samples, bucket, tracks, fitting, Progress("fit", "Clips checked"))


@step("fit-previews", version=2)
def fit_previews(
    previews: tuple[PreviewSample, ...], plan: Plan, bucket: Bucket, fitting: Fitting
) -> tuple[FittedSample, ...]:
    """Validation samples -> what is given of each."""
    return tuple(each(lambda preview: fit_given(preview, plan, bucket, fitting), previews))

"""Fit: settle for every clip exactly what the model will see, and check that it decodes."""

from schemas.media import Bucket, Fitting, Sample
from schemas.plan import Plan, Track
from schemas.preview import PreviewSample
from tasks.dataset.rules import Fitted
from tasks.fitting import fit_all_given, fit_samples
from tasks.step import Progress, step


@step("fit", version=4)
def fit(samples: tuple[Sample, ...], bucket: Bucket, tracks: tuple[Track, ...], fitting: Fitting) -> Fitted:
    """Samples -> what is seen of each; those that are too short are skipped with their reason."""
    return fit_samples(samples, bucket, tracks, fitting, Progress("fit", "Clips checked"))


@step("fit-previews", version=5)
def fit_previews(previews: tuple[PreviewSample, ...], plan: Plan, bucket: Bucket, fitting: Fitting) -> Fitted:
    """Validation samples -> what is given of each."""
    return fit_all_given(previews, plan, bucket, fitting)

"""The dataset report: every sample of the archive with its fate, in the result, in the UI and in `plan`."""

from schemas.media import Bucket, FittedSample
from schemas.result import DatasetReport, PlannedSample
from tasks.matching import Matched
from tasks.settling import Fitted


def dataset_report(matched: Matched, fitted: Fitted, bucket: Bucket, notes: tuple[str, ...] = ()) -> DatasetReport:
    """What was kept, skipped, warned of and ignored."""
    return DatasetReport(
        kept=len(fitted.samples),
        skipped=list(fitted.skipped),
        warnings=[*notes, *matched.warnings, *fitted.warnings],
        ignored=list(matched.ignored),
        samples=[_planned(sample) for sample in fitted.samples],
        bucket=bucket,
    )


def _planned(sample: FittedSample) -> PlannedSample:
    return PlannedSample(name=sample.name, caption=sample.caption, files=sample.files)

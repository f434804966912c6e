"""Match: files to samples, captions to their clips."""

from schemas.layout import Layout
from tasks.dataset.matching import match_samples
from tasks.manifests import Extracted, Matched
from tasks.step import step


@step("match", version=4)
def match(extracted: Extracted, layout: Layout) -> Matched:
    """Files -> samples; all faults of the archive are raised together."""
    return match_samples(extracted, layout)

"""Match: files to samples, captions to their clips."""

from schemas.endpoint import Layout
from tasks.extracting import Extracted
from tasks.matching import Matched, match_samples
from tasks.step import step


@step("match", version=3)
def match(extracted: Extracted, layout: Layout) -> Matched:
    """Files -> samples; all faults of the archive together."""
    return match_samples(extracted, layout)

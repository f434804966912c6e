"""Match: files to samples, captions to their clips."""

from schemas.layout import Layout
from tasks.dataset.matching import match_samples
from tasks.manifests import Extracted, Matched
from tasks.step import listed, step


def _told(matched: Matched) -> str:
    left_out = f"{len(matched.ignored)} files that none of them uses"
    return f"{len(matched.samples)} samples, {len(matched.captions)} captions, {left_out}{listed(matched.warnings)}"


@step("match", version=4, says=_told)
def match(extracted: Extracted, layout: Layout) -> Matched:
    """Files -> samples; all faults of the archive are raised together."""
    return match_samples(extracted, layout)

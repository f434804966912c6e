"""Order: the bucket, tracks and options by which all samples of a run are settled."""

from typing import NamedTuple

from schemas.media import Bucket, FitOptions
from schemas.plan import Track


class Order(NamedTuple):
    """What all samples of a run are fit to, and what is needed of them."""

    bucket: Bucket
    tracks: tuple[Track, ...]
    fitting: FitOptions

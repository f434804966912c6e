"""Validation samples with their files: the input of previews, each file for its track."""

from schemas.media import Frozen, MediaFile
from schemas.plan import Track
from schemas.rejections import Loc


class GivenFile(Frozen):
    """One file of a validation sample, and the request field that brought it in."""

    track: Track
    file: MediaFile
    where: Loc


class PreviewSample(Frozen):
    """One validation sample with its files downloaded."""

    name: str
    prompt: str
    given: tuple[GivenFile, ...]

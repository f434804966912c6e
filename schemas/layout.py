"""Dataset layouts: the roles, suffixes and extensions of the files that an archive has for each sample."""

from schemas.media import Frozen, Modality, Role

AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".aac", ".m4a")
VIDEO = (".mp4", ".mov", ".avi", ".mkv")
VIDEO_WEBM = (".mp4", ".mov", ".webm", ".mkv", ".avi")
IMAGE = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class Slot(Frozen):
    """One file of a sample: the role it plays, its name's suffix, and the extensions it may have."""

    role: Role
    suffix: str
    extensions: tuple[str, ...]


class Layout(Frozen):
    """The files that an archive has for each sample."""

    modality: Modality  # that is asked for; names faults and reports
    slots: tuple[Slot, ...]
    folders_distinguish: bool = False  # else names are unique across the archive


PLAIN_AUDIO = Layout(modality="audio", slots=(Slot(role="target", suffix="", extensions=AUDIO),))
PLAIN_VIDEOS = Layout(
    modality="video", slots=(Slot(role="target", suffix="", extensions=VIDEO),), folders_distinguish=True
)
AUDIO_PAIRS = Layout(
    modality="audio",
    slots=(
        Slot(role="reference", suffix="_start", extensions=AUDIO),
        Slot(role="target", suffix="_end", extensions=AUDIO),
    ),
)
VIDEO_PAIRS = Layout(
    modality="video",
    slots=(
        Slot(role="reference", suffix="_start", extensions=VIDEO_WEBM),
        Slot(role="target", suffix="_end", extensions=VIDEO_WEBM),
    ),
)
MASKED_PAIRS = Layout(
    modality="video",
    slots=(
        Slot(role="reference", suffix="_start", extensions=VIDEO_WEBM),
        Slot(role="target", suffix="_end", extensions=VIDEO_WEBM),
        Slot(role="mask", suffix="_mask", extensions=IMAGE + VIDEO_WEBM),
    ),
)

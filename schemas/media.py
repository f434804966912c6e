"""Media on their way to the model: roles, buckets, samples, fitted clips."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.units import FRAMES_PER_STEP, audio_steps

Modality = Literal["video", "audio"]
Role = Literal["target", "reference", "mask"]

FRAME_COUNTS = tuple(range(9, 122, FRAMES_PER_STEP))  # of buckets and prefixes: 8k+1
LEAST_SECONDS = 0.5  # of a bucket of sound


class Frozen(BaseModel):
    """A value: compared and hashed by content, refused where a field is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Picture(Frozen):
    """The video half of a bucket."""

    width: int
    height: int
    frames: int
    fps: float


class Bucket(Frozen):
    """The one shape all clips are fit to; without a picture it is a length of sound."""

    seconds: float
    picture: Picture | None = None

    @classmethod
    def of(cls, picture: Picture) -> "Bucket":
        return cls(seconds=picture.frames / picture.fps, picture=picture)

    @property
    def audio_steps(self) -> int:
        return audio_steps(self.seconds)

    def at(self, fps: float) -> "Bucket":
        """The bucket at another frame rate: as many frames, so another length in seconds."""
        return Bucket.of(self.picture.model_copy(update={"fps": fps})) if self.picture else self


class ShorterPreview(Frozen):
    """A change of one parameter of the request, and the length that its previews would then have."""

    parameter: str
    value: int | float
    seconds: float


class FitOptions(Frozen):
    """The user's options for fitting clips to the bucket, and what else the request could have asked for.

    Remedies and suggestions name only changes that the request would accept.
    """

    auto_scale: bool = False
    normalize: bool = True
    preserve_pitch: bool = True
    split_above_seconds: float | None = None  # None: long clips are not split into scenes
    frame_counts: tuple[int, ...] = FRAME_COUNTS  # that number_of_frames may have
    least_seconds: float = LEAST_SECONDS  # that audio_duration_seconds may have
    shorter_previews: tuple[ShorterPreview, ...] = ()
    sound_remedy: str = "add one"  # for a clip without an audio track


class MediaFile(Frozen):
    """One file of an archive or of a validation sample, known by its content."""

    name: str
    sha256: str
    size: int


class SceneRange(Frozen):
    """Frames [start, end) of a clip that was split into scenes, and when they are shown: rates may vary."""

    start: int
    end: int
    start_seconds: float  # on the file's own clock
    seconds: float
    seek_seconds: float  # 0.0, or between the frame before and the first one


class Sample(Frozen):
    """One training example: files by role, and the caption as its author wrote it."""

    name: str
    caption: str
    files: dict[Role, MediaFile]
    scene: SceneRange | None = None


class Skipped(Frozen):
    """A sample that is not trained on, and why."""

    name: str
    reason: str


class FittedVideo(Frozen):
    """The frames that the video encoder sees, exactly: the window to decode and the filters it goes through."""

    source: str  # sha256 of the file
    seek_seconds: float  # 0.0, or half a frame before a scene's first frame
    filters: str  # ffmpeg's filter graph, from the decoder to frames of the bucket's size
    width: int
    height: int
    frames: int
    fps: float  # at which these frames are shown: the clip's own rate, or the bucket's when the clip was retimed
    hold_last: bool = False  # a mask shorter than its clip holds its last frame


class FittedAudio(Frozen):
    """The sound samples that the audio encoder sees, exactly."""

    source: str  # sha256 of the file
    start_seconds: float  # of the window, on the file's own clock; silence before its beginning when negative
    seconds: float  # of the window; silence after the file's end
    stretch: float = 1.0  # 2.0 makes the window twice as long
    preserve_pitch: bool = True
    gain: float = 1.0  # peak normalisation, settled when the clip was fit


class Clip(Frozen):
    """One role of a fitted sample."""

    video: FittedVideo | None = None
    audio: FittedAudio | None = None
    mask_frames: int | None = None  # that a mask's file has; the last one is held

    @property
    def tracks(self) -> dict[Modality, FittedVideo | FittedAudio]:
        both: tuple[tuple[Modality, FittedVideo | FittedAudio | None], ...] = (
            ("video", self.video),
            ("audio", self.audio),
        )
        return {modality: fitted for modality, fitted in both if fitted is not None}


class FittedSample(Frozen):
    """A sample with its fitted clips."""

    name: str
    caption: str
    files: dict[Role, str] = {}  # names in the archive
    clips: dict[Role, Clip]
    fps: float  # of the target, whether it is here or to be generated; sound alone has none and is placed in seconds

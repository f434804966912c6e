"""Request fields of the endpoints that train on sound alone, and the length of their previews."""

import math
from bisect import bisect_left
from collections.abc import Iterator

from pydantic import Field

from schemas.form import FIRST, LAST, PREVIEW_FIELDS, SOUND_FIELDS, VIDEO_FIELDS, VIDEO_PREVIEW_FIELDS
from schemas.media import FRAME_COUNTS, LEAST_SECONDS, Bucket, FitOptions, ShorterPreview
from schemas.request import NEVER_SPLIT, TrainRequest, VideoTrainRequest
from schemas.units import LONGEST_PREVIEW_FRAMES, snap_frames

NEVER_STRETCHED = "sound without a picture is never stretched: it is cut, or skipped where it is too short"
NO_PICTURE = "this mode has no picture"


class AudioTrainRequest(VideoTrainRequest):
    """What every audio-only endpoint accepts. Video fields are accepted, too, and have no effect."""

    form_order = (*FIRST, *SOUND_FIELDS, *PREVIEW_FIELDS, *LAST, *VIDEO_FIELDS, *VIDEO_PREVIEW_FIELDS)
    unused = tuple(sorted(VideoTrainRequest.model_fields.keys() - TrainRequest.model_fields.keys()))

    audio_duration_seconds: float = Field(
        5.0,
        ge=0.5,
        le=60,
        title="Clip length",
        description="Seconds, 0.5 to 60; longer clips are cut, shorter ones skipped.",
    )

    @property
    def bucket(self) -> Bucket:
        return Bucket(seconds=self.audio_duration_seconds)

    @property
    def preview_bucket(self) -> Bucket:
        return Bucket(seconds=preview_seconds(self.audio_duration_seconds, self.validation_frame_rate))

    @property
    def fitting(self) -> FitOptions:
        hundredths = range(int(LEAST_SECONDS * 100), int(self.audio_duration_seconds * 100))
        refused = bisect_left(hundredths, True, key=lambda each: self.allows("audio_duration_seconds", each / 100))
        return FitOptions(
            normalize=self.audio_normalize,
            preserve_pitch=self.audio_preserve_pitch,
            least_seconds=LEAST_SECONDS + refused / 100,
        )

    @property
    def preview_fitting(self) -> FitOptions:
        return self.fitting.model_copy(update={"shorter_previews": tuple(self._shorter_previews())})

    def _shorter_previews(self) -> Iterator[ShorterPreview]:
        """Changes that make previews shorter: another frame rate first, because it leaves the training as it is."""
        duration, rate = self.audio_duration_seconds, self.validation_frame_rate
        own = preview_seconds(duration, rate)
        rates = (("validation_frame_rate", each, preview_seconds(duration, each)) for each in range(8, 61))
        lengths = (math.ceil(count / rate * 100) / 100 for count in FRAME_COUNTS)
        durations = (
            ("audio_duration_seconds", each, preview_seconds(each, rate)) for each in lengths if each < duration
        )
        for parameter, value, seconds in (*rates, *durations):
            if seconds < own and self.allows(parameter, value):
                yield ShorterPreview(parameter=parameter, value=value, seconds=seconds)

    @property
    def without_effect(self) -> dict[str, str]:
        of_sound = NEVER_SPLIT | dict.fromkeys(("audio_preserve_pitch", "auto_scale_input"), NEVER_STRETCHED)
        return of_sound | {name: NO_PICTURE for name in self.unused if name not in of_sound}


def preview_seconds(duration: float, frame_rate: int) -> float:
    """Length of an audio-only preview: the bucket, but at most 121 frames of the preview frame rate.

    Source: docs/media-rules.md, reading 8.
    """
    frames = min(LONGEST_PREVIEW_FRAMES, snap_frames(int(duration * frame_rate)))
    return frames / frame_rate

"""Fitted tracks, decoded out of the store: exactly the frames and samples that fit has settled."""

import torch
from torch import Tensor

from schemas.media import FittedAudio, FittedVideo
from tasks.media.ffmpeg import decode_again, decode_audio, decode_video
from tasks.media.waveform import Waveform
from tasks.storage.store import store


def read_frames(video: FittedVideo, seen: int | None = None) -> Tensor:
    """The frames of a track, uint8 [F, H, W, 3].

    Args:
        video: from fit.
        seen: how many frames its file had when fit decoded it; None where it has to have all of them.

    Raises:
        UnreadableClip: it does not decode any more.
        StoreDamaged: its file is gone or damaged.
    """
    with store().media(video.source) as path:
        return torch.from_numpy(decode_video(path, video) if seen is None else decode_again(path, video, seen))


def read_sound(audio: FittedAudio, rate: int) -> Waveform:
    """The sound of a track, float32 [2, N] at `rate`.

    Raises:
        UnreadableClip, StoreDamaged: as `read_frames`.
    """
    with store().media(audio.source) as path:
        return decode_audio(path, audio, rate)

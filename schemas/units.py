"""Lengths in frames and seconds, converted to latent steps here, once.

A video step is 1 pixel frame for the first and 8 for each later one (causal video VAE); an audio step is 1/25 s
(16 kHz / hop 160 / factor 4). Source: docs/ltx2.md, section G.
"""

LONGEST_PREVIEW_FRAMES = 121
LATENT_CELL = 32  # pixels of a latent cell's side
FRAMES_PER_STEP = 8
AUDIO_STEPS_PER_SECOND = 25
WHITE_ABOVE = 127  # of a mask's luma, 0 to 255
CODEC_PADDING_SECONDS = 0.020  # encoders shift and pad by up to one packet; such a deficit is not "too short"


def video_steps(frames: int) -> int:
    """Pixel frames (8k+1) -> latent steps (k+1)."""
    return (frames - 1) // FRAMES_PER_STEP + 1


def video_frames(steps: int) -> int:
    """Latent steps -> pixel frames that they decode to."""
    return (steps - 1) * FRAMES_PER_STEP + 1


def audio_steps(seconds: float) -> int:
    """Seconds -> latent steps, rounded half to even as in the official code."""
    return round(AUDIO_STEPS_PER_SECOND * seconds)


def snap_frames(frames: int) -> int:
    """The nearest frame count of the form 8k+1 that is not above `frames`."""
    return max(1, (frames - 1) // FRAMES_PER_STEP * FRAMES_PER_STEP + 1)

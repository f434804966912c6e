"""Numbers of LTX-2.x that its configuration files do not tell. Source: docs/ltx2.md, sections C2, F and G."""

CHANNELS = 128  # of a latent token, video and audio
TEXT_TOKENS = 1024  # of every prompt, padded

# audio, before its VAE: log-mel magnitudes, 100 frames per second
SAMPLE_RATE, WINDOW, HOP, BANDS = 16_000, 1024, 160, 64
FRAMES_PER_AUDIO_STEP = 4

# previews
STG_BLOCK = 28
SHIFT, LAST_SIGMA = 2.05, 0.1  # of the schedule: that of 4096 tokens whatever the size, ending at 0.1 before 0


def stg_block_of(layers: int) -> int:
    """The block whose self-attention STG skips: 28, or the last but one of a smaller model."""
    return STG_BLOCK if layers > STG_BLOCK + 1 else max(layers - 2, 0)

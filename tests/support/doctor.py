"""What every doctor tells."""

from flows.doctor import examine

REAL = "diffusers/LTX-2.3-Diffusers"


WHOLE = ["settings", "ffmpeg", "ffprobe", "rubberband", "C compiler", "device", "GPU memory", "main memory", "disk",
         "base model", "Hub", "store", "outputs", "ledger", "Prefect server", "API port"]  # fmt: skip


def found():
    return {finding.what: finding for finding in examine()}

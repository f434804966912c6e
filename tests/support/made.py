"""What a run has made, looked at: the adapter, the reel, the debug archive."""

import subprocess
import zipfile

import numpy as np
from safetensors.torch import load_file


def moved(made):
    tensors = load_file(made / "lora.safetensors")
    return all(tensor.any() for key, tensor in tensors.items() if ".lora_B." in key)


def debugged(made):
    return set(zipfile.ZipFile(made / "debug_dataset.zip").namelist())


def film(path, frames, width):
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    return raw.reshape(frames, -1, width, 3).astype(int)

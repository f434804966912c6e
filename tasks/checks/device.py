"""The device: whether torch can use the GPU that the driver sees, computes on it, and has enough free memory there."""

import os
import shutil
import subprocess
from pathlib import Path

import torch

from models.ltx2 import needs
from models.ltx2.bundle import is_tiny
from models.ltx2.loading import SHARE_OF_ACTIVATIONS, pick_device, pick_dtype
from schemas.errors import MachineNotReady
from schemas.settings import settings
from tasks.checks.finding import GB, Finding, in_gb

SMI, SMI_ON_WSL = "nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"
SMI_SECONDS = 30
OLDEST_DRIVERS = {"12": 525, "13": 580}  # by CUDA's version: the oldest that it runs on
ON_PURPOSE = "or set LTX_FLOWS_DEVICE=cpu, if that is meant"
Gpu = tuple[str, str]  # name, version of the driver


def device() -> Finding:
    """Check that the device of the settings is there and computes."""
    wanted = settings().device
    if wanted != "cpu" and not torch.cuda.is_available() and (seen := gpus_of_the_driver()):
        return Finding("device", False, f"{_unusable(seen)}; {ON_PURPOSE}")
    try:
        picked = pick_device(wanted)
    except MachineNotReady as error:
        return Finding("device", False, str(error))
    if picked.type == "cpu":
        slow = wanted != "cpu" and not is_tiny(settings().base_model)
        note = f": no GPU is seen, and LTX-2.3 would train for weeks; install the GPU's driver, {ON_PURPOSE}"
        return Finding("device", not slow, f"cpu, {pick_dtype(picked)}{note if slow else ''}")
    return _gpu(picked)


def _gpu(picked: torch.device) -> Finding:
    count, needed = torch.cuda.device_count(), max(settings().devices, (picked.index or 0) + 1)
    if needed > count:
        return Finding("device", False, f"{needed} GPUs are asked for by DEVICE and DEVICES, and torch sees {count}")
    try:
        torch.ones(8, device=picked).mul(2).sum().item()
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        return Finding(
            "device", False, f"{picked} does not compute ({words}); look with `{SMI}`, update torch or driver"
        )
    return Finding("device", True, f"{picked}, {torch.cuda.get_device_name(picked)}, {pick_dtype(picked)}")


def gpu_memory() -> Finding:
    """Check of the GPU's free memory against what prompts take; of the transformer, blocks can wait elsewhere."""
    what, wanted = "GPU memory", settings()
    if pick_device(wanted.device).type == "cpu":
        return Finding(what, True, "not needed on the CPU")
    free, total = torch.cuda.mem_get_info(pick_device(wanted.device))
    state = f"{in_gb(free)} of {in_gb(total)} free"
    if is_tiny(wanted.base_model):
        return Finding(what, True, state)
    needed = needs.ENCODING[wanted.text_encoder_weights]
    if free < needed * GB:
        smaller = (
            "set LTX_FLOWS_TEXT_ENCODER_WEIGHTS=fp8" if wanted.text_encoder_weights == "bf16" else "use another GPU"
        )
        return Finding(what, False, f"{state}, and prompts take {needed}; end what uses it ({SMI}), or {smaller}")
    whole = [plan for plan, size in needs.TRAINING[wanted.base_weights].items() if size * GB <= free]
    return Finding(
        what, True, f"{state}; trains without offload: {', '.join(whole) or 'nothing, blocks are offloaded'}"
    )


def main_memory_needed() -> float:
    """Bytes of main memory that a run takes with these settings."""
    wanted = settings()
    if is_tiny(wanted.base_model):
        return needs.TINY_MEMORY * GB
    picked = pick_device(wanted.device)
    on_cpu = picked.type == "cpu"
    free, total = (0, 0) if on_cpu else torch.cuda.mem_get_info(picked)
    return GB * needs.main_memory(
        on_cpu,
        wanted.base_weights,
        wanted.text_encoder_weights,
        free / GB,
        SHARE_OF_ACTIVATIONS * total / GB,
        may_offload=wanted.offload_blocks != 0,
    )


def gpus_of_the_driver() -> list[Gpu]:
    """GPUs that the driver sees, whether torch can use them or not."""
    smi = shutil.which(SMI) or (SMI_ON_WSL if Path(SMI_ON_WSL).exists() else None)
    if smi is None:
        return []
    command = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    rows = [line.rpartition(",") for line in done.stdout.splitlines() if "," in line] if not done.returncode else []
    return [(name.strip(), driver.strip()) for name, _, driver in rows]


def _unusable(seen: list[Gpu]) -> str:
    """The reason why torch cannot use a GPU that is there, and the remedy."""
    name, driver = seen[0]
    told = f"{SMI} sees {name}, and torch {torch.__version__} cannot use it"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):
        return f"{told}: CUDA_VISIBLE_DEVICES hides it; unset it"
    cuda = torch.version.cuda
    if cuda is None:
        plain = torch.__version__.partition("+")[0]
        return f"{told}: it is a build for the CPU; type: pip install --force-reinstall --no-deps torch=={plain}"
    oldest = OLDEST_DRIVERS.get(cuda.partition(".")[0], 0)
    if driver.partition(".")[0].isdigit() and int(driver.partition(".")[0]) < oldest:
        return (
            f"{told}: its CUDA {cuda} needs driver {oldest} or newer, and here is {driver}; update the driver (on WSL2 "
            f"that of Windows)"
        )
    return f"{told}: {_words_of_torch()}; check that {SMI} and /dev/nvidia* are of this user and this container"


def _words_of_torch() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "no reason is given"

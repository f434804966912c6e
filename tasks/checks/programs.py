"""Programs on this machine: ffmpeg with the encoders and filters that are used, ffprobe, rubberband, a C compiler."""

import os
import shutil
import sysconfig
from pathlib import Path

from models.ltx2.loading import pick_device
from schemas.settings import settings
from tasks.checks.finding import Finding
from tasks.media.programs import ENCODERS, FILTERS, PACKAGES, abilities, version

COMPILERS = ("cc", "gcc", "clang")  # the order in which Triton looks for one


def program(name: str) -> Finding:
    """Check of one program of the system's packages."""
    found = version(name)
    if found is None:
        return Finding(name, False, f"type: apt-get install {PACKAGES[name]}")
    if name != "ffmpeg":
        return Finding(name, True, found)
    lacks = [*sorted(ENCODERS - abilities("encoders")), *sorted(FILTERS - abilities("filters"))]
    if lacks:
        return Finding(
            name, False, f"{found} lacks {', '.join(lacks)}; put a full build first on PATH: apt-get install ffmpeg"
        )
    return Finding(name, True, f"{found}, with all encoders and filters that are used")


def compiler() -> Finding:
    """Check of what compiled training needs: a C compiler and Python's headers."""
    what = "C compiler"
    if settings().compile == "off" or pick_device(settings().device).type == "cpu":
        return Finding(what, True, "not needed: nothing is compiled on the CPU or with LTX_FLOWS_COMPILE=off")
    wanted = os.environ.get("CC")
    found = shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        remedy = f"CC={wanted} is no program; unset it" if wanted else "type: apt-get install gcc libc6-dev"
        return Finding(what, False, f"{remedy}; or set LTX_FLOWS_COMPILE=off, and train slower")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not headers.is_file():
        remedy = "type: apt-get install python3-dev; or set LTX_FLOWS_COMPILE=off, and train slower"
        return Finding(what, False, f"{found}, but Python's headers are missing ({headers}); {remedy}")
    return Finding(what, True, found)

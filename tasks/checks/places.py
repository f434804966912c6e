"""Places: main memory, disks, HOME, the store and OUTPUTS (written, read back, removed), the ledger and its version."""

import shutil
from pathlib import Path
from uuid import uuid4

import psutil

from models.ltx2 import needs
from models.ltx2.bundle import is_here, is_tiny
from schemas.errors import BaseModelNotHere
from schemas.settings import settings
from tasks.base_model import COMPONENTS
from tasks.checks.device import main_memory_needed
from tasks.checks.finding import GB, Finding, in_gb
from tasks.ledger.bills import bills
from tasks.ledger.database import revision
from tasks.sources.hub import cache_folder, snapshot
from tasks.storage.folder import Place
from tasks.storage.home import private_home
from tasks.storage.outputs import prove

CGROUP = Path("/sys/fs/cgroup")


def main_memory() -> Finding:
    """Check of free main memory against what the base model needs there."""
    free, needed = free_memory(), main_memory_needed()
    state = f"{in_gb(free)} free, {in_gb(needed)} needed"
    return Finding("main memory", free >= needed, state if free >= needed else f"{state}; {LESS_MEMORY}")


LESS_MEMORY = "end other programs, or give this machine, container or WSL2 (.wslconfig) more"


def free_memory() -> int:
    """Bytes of main memory that are free, for this container where there is one."""
    free = int(psutil.virtual_memory().available)
    try:
        most, used = ((CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return min(free, int(most) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit: `max`
        return free


def disk() -> Finding:
    """Check of free disk: under HOME for runs, and in the Hub's cache for a base model that is still to be fetched."""
    tiny = is_tiny(settings().base_model)
    wanted = {private_home(): needs.TINY_RUN if tiny else needs.RUN}
    if not is_here(settings().base_model) and not _is_fetched():
        wanted[cache_folder()] = needs.DOWNLOAD
    told = {folder: (shutil.disk_usage(_nearest(folder)).free, size * GB) for folder, size in wanted.items()}
    words = [f"{folder}: {in_gb(free)} free, {in_gb(size)} needed" for folder, (free, size) in told.items()]
    enough = all(free >= size for free, size in told.values())
    remedy = "" if enough else "; free some, or put LTX_FLOWS_HOME or HF_HOME on another disk"
    return Finding("disk", enough, "; ".join(words) + remedy)


def _is_fetched() -> bool:
    try:
        snapshot(settings().base_model, COMPONENTS)
    except BaseModelNotHere:
        return False
    return True


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def place(what: str, url: str) -> Finding:
    """Check that a place can be written, read and cleared.

    Raises:
        StoreFull, StoreRefused, StoreUnavailable: it cannot.
    """
    found = Place(url)
    prove(found, f".doctor-{uuid4()}")
    free = f", {in_gb(shutil.disk_usage(found.root).free)} free" if found.is_local else ""
    return Finding(what, True, f"{found.url}: written, read back and removed{free}")


def ledger() -> Finding:
    """Check that the ledger opens, as a run opens it: with its tables brought to this version.

    Raises:
        LedgerUnavailable, DatabaseDamaged, DatabaseUnusable: it does not.
    """
    return Finding("ledger", True, f"{len(bills())} bills, tables of version {revision()}")

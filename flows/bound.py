"""Bound processes: run a module that ends with its parent, `python -m flows.bound MODULE ARGUMENTS`.

A worker that is killed would leave its run behind, with the GPU's memory; a bound run is gone in the same moment.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

PARENT = "LTX_FLOWS_BOUND_TO"  # which process a bound child belongs to; says so even if that one is gone already
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
SECONDS_BETWEEN_LOOKS = 0.5


def end_with_parent(parent: int) -> None:
    """End this process when the parent ends: by the kernel on Linux, elsewhere by a thread that looks."""
    if not die_with_parent():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(1)


def die_with_parent() -> bool:
    """Let the kernel kill this process when its parent ends; False where it cannot."""
    if sys.platform != "linux":
        return False
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    return True


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


if __name__ == "__main__":
    end_with_parent(int(os.environ.get(PARENT) or os.getppid()))
    os.environ[PARENT] = str(os.getpid())  # for what this process starts bound in its turn
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

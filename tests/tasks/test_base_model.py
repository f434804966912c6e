"""The base model of the settings, as the steps of a run share it."""

import subprocess
import sys

import pytest

from models.ltx2 import tiny
from models.ltx2.bundle import TINY_FOLDER


@pytest.mark.long
def test_two_processes_that_need_the_tiny_base_build_it_once(home):
    code = """
import multiprocessing
import diffusers, transformers, models.ltx2.tiny  # once for both

processes = multiprocessing.get_context("fork")
together, told = processes.Barrier(2), processes.Queue()

def build():
    from tasks.base_model import base

    together.wait()
    told.put(base().location)

both = [processes.Process(target=build) for _ in range(2)]
[process.start() for process in both]
print(told.get(), told.get())
[process.join() for process in both]
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True).stdout
    assert told.split() == [str(home / "base" / TINY_FOLDER)] * 2
    assert [path.name for path in (home / "base").iterdir()] == [TINY_FOLDER]
    assert tiny.is_whole(home / "base" / TINY_FOLDER)

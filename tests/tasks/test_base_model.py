"""The base model of the settings, as the steps of a run share it."""

import os
import subprocess
import sys

from models.ltx2 import tiny
from models.ltx2.bundle import TINY_FOLDER


def test_two_processes_that_need_the_tiny_base_build_it_once(home):
    environment = {**os.environ, "LTX_FLOWS_BASE_MODEL": "tiny"}
    code = "from tasks.base_model import base; print(base().location)"
    pipe = subprocess.PIPE
    others = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=pipe, text=True) for _ in range(2)]
    assert {other.communicate(timeout=100)[0].strip() for other in others} == {str(home / "base" / TINY_FOLDER)}
    assert [path.name for path in (home / "base").iterdir()] == [TINY_FOLDER]
    assert tiny.is_whole(home / "base" / TINY_FOLDER)

"""Seconds from a typed `ltx-flows` command until its flow begins, for several runs in one HOME.

    python benchmarks/startup.py [--runs 4]

The first run of a new HOME includes the migrations of Prefect's database and is shown apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [Path(sys.executable).with_name("ltx-flows"), "demo", "audio-extend-prefix"]


def until_the_flow_begins(home: str) -> float:
    """Run the demonstration to its end; return when its flow began."""
    environment = os.environ | {"LTX_FLOWS_HOME": home}
    began = time.monotonic()
    seconds = None
    with subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if seconds is None and "Beginning flow run" in line:
                seconds = time.monotonic() - began
    if run.returncode or seconds is None:
        raise SystemExit(f"the run ended with {run.returncode}")
    return seconds


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4, help="runs after the first one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        first, *later = [until_the_flow_begins(home) for _ in range(1 + options.runs)]
    print(f"first run of a HOME: {first:.1f} s")
    print(f"later ones: {statistics.median(later):.1f} s ({min(later):.1f} to {max(later):.1f})")


if __name__ == "__main__":
    main()

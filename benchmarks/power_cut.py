"""Cuts the power of runs at random, and looks whether each ends as if it had been let alone.

    python benchmarks/power_cut.py [--cuts 50] [--seed 0]

HOME, store, outputs, ledger and Prefect's database are on a file system of their own of which, at a random moment, only
what was synced remains; the request is typed again, and has to end in the same bytes with one bill. Needs root.
"""

import argparse
import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.chains import Ground, Runner, Server, reference, requests_in
from tests.support.power import Disk, is_possible
from tests.support.power_cuts import cut_once

NAMES = ("audio-extend-prefix", "audio-extend-prefix", "extend-prefix")
LONGEST_RUN = {"audio-extend-prefix": 22.0, "extend-prefix": 40.0}  # seconds, and a little more


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not is_possible():
        print("file systems cannot be mounted here: root and a loop device are needed")
        return 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="power-") as name, ExitStack() as stack:
        folder = Path(name)
        server = Server(folder / "server")
        stack.callback(server.kill)
        ground = Ground(folder, Runner(folder / "runner"), server, requests_in(folder))
        stack.callback(ground.runner.close)
        return cut_all(ground, options.cuts, random.Random(options.seed))


def cut_all(ground: Ground, cuts: int, dice: random.Random) -> int:
    whole = {name: reference(ground, name) for name in set(NAMES)}
    failed = 0
    for number in range(cuts):
        name = dice.choice(NAMES)
        moment = dice.uniform(0.5, LONGEST_RUN[name])
        with Disk(ground.folder / f"cut-{number}") as disk:
            wrong = cut_once(ground, disk, name, moment, whole[name])
        failed += bool(wrong)
        print(f"{number:>4} {name:20} after {moment:5.1f} s  {wrong or 'as if let alone'}", flush=True)
    print(f"{cuts} cuts, {failed} of them ended otherwise")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Kills runs at random, and looks whether each ends as if it had been let alone: the same bytes, one bill, no growth.

    python benchmarks/crashes.py [--kills 200] [--seed 0] [--chain SEED]

A chain is one run of a small request (sounds, or films with sound), on a local store or on S3, on one machine or on two
that take turns, killed up to four times: the whole process tree, the training process, ffmpeg or the Prefect server, at
a moment or at a touch of a step that the seed chooses. `--chain` repeats one. Needs moto and PostgreSQL's server.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support import postgres, s3
from tests.support.chains import Chain, Ground, Runner, Server, carry_out, reference, requests_in, verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", type=int, help="carry out this one alone")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="crashes-") as name, ExitStack() as stack:
        folder = Path(name)
        endpoint = stack.enter_context(s3.server())
        os.environ.update(s3.environment(endpoint))
        make_bucket()
        database = stack.enter_context(postgres.server())
        server = Server(folder / "server", database.replace("psycopg", "asyncpg"))
        ground = Ground(
            folder, Runner(folder / "runner"), server, requests_in(folder), s3.environment(endpoint), database
        )
        stack.callback(server.kill)
        stack.callback(ground.runner.close)
        return carry_out_all(ground, options)


def carry_out_all(ground: Ground, options: argparse.Namespace) -> int:
    whole = {name: reference(ground, name) for name in ground.requests}
    killed, failed, begun = 0, [], time.monotonic()
    seeds = [options.chain] if options.chain is not None else range(options.seed * 1000, options.seed * 1000 + 999)
    for seed in seeds:
        if killed >= options.kills:
            break
        chain = Chain.of(seed)
        ended = carry_out(ground, chain)
        wrong = verdict(ground, chain, ended, whole[chain.endpoint])
        killed += ended.kills
        where = f"{chain.machines} machine{'s' * (chain.machines > 1)}, {'S3' if chain.on_s3 else 'local'}"
        how = f"{ended.kills} kills {ended.tries} tries  {wrong or 'as if let alone'}"
        print(f"{seed:>6} {chain.endpoint:20} {where:18} {how}", flush=True)
        failed += [seed] if wrong else []
    print(f"{killed} kills in {time.monotonic() - begun:.0f} s; chains that ended otherwise: {failed or 'none'}")
    return bool(failed)


def make_bucket() -> None:
    import s3fs  # noqa: PLC0415

    s3fs.S3FileSystem().makedirs("data", exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())

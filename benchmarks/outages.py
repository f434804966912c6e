"""Takes Prefect's server or its database away under a training, and looks whether the run ends as if nothing had been.

    python benchmarks/outages.py [--down 6 120] [--on sqlite postgresql] [--database-down 60] [--pace 80]

The server is killed for so many seconds: under a training that goes on until it is back; also, for less than a minute,
as the run begins, and for more, under a training that ends meanwhile. PostgreSQL, which then keeps the ledger, too, is
ended without a word, and held still. A run has to end Completed, begun once and never called crashed, with one bill and
the same bytes as a run let alone.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support import postgres
from tests.support.outages import (
    LONGEST_RUN,
    Ended,
    Site,
    database_away,
    database_silent,
    let_alone,
    server_away,
    under_a_run,
)

SHORT = 1500  # steps
SECONDS_TO_START = 20.0  # of the server
LONG = 60.0  # so long away, and a short training has ended
UNDER = {True: "going when it is back", False: "ended when it is back", None: "as its run begins"}


@dataclass(frozen=True)
class Case:
    """What is taken away, under a training of how many steps."""

    kind: str
    told: str
    steps: int
    outage: Callable[[Site], None]
    goes_on: bool | None  # the training, until all is there again; None: it may not have begun by then
    when: Callable[[Site], bool] = Site.learns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--down", type=float, nargs="*", default=[6, 120], help="seconds without Prefect's server")
    parser.add_argument("--on", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--database-down", type=float, nargs="*", default=[60], help="seconds without PostgreSQL")
    parser.add_argument("--pace", type=float, default=80, help="steps of the tiny model per second, here; or more")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="outages-") as name, ExitStack() as stack:
        database = stack.enter_context(postgres.database()) if "postgresql" in options.on else None
        alone: dict[int, bytes] = {}
        found = [
            carry_out(Path(name) / str(number), case, database, alone)
            for number, case in enumerate(cases(options, database))
        ]
    print(f"{len(found)} outages; {sum(map(bool, found))} runs ended otherwise")
    return int(any(found))


def cases(options: argparse.Namespace, database: postgres.Database | None) -> Iterator[Case]:
    for kind in options.on:
        for seconds in options.down:
            outage, told = partial(server_away, seconds=seconds), f"server killed, {seconds:.0f} s"
            yield Case(kind, told, steps_for(seconds, options.pace), outage, goes_on=True)
            if seconds >= LONG:
                yield Case(kind, told, SHORT, outage, goes_on=False)
            else:
                yield Case(kind, told, SHORT, outage, goes_on=None, when=Site.begins)
        if kind == "postgresql":
            for seconds in options.database_down:
                for outage, word in ((database_away, "ended"), (database_silent, "held still")):
                    told = f"database {word}, {seconds:.0f} s"
                    taken = partial(outage, database, seconds=seconds)
                    yield Case(kind, told, steps_for(seconds, options.pace), taken, goes_on=True)


def steps_for(seconds: float, pace: float) -> int:
    """So many that the training goes on until all is there again."""
    return max(SHORT, int((seconds + SECONDS_TO_START) * pace))


def carry_out(folder: Path, case: Case, database: postgres.Database | None, alone: dict[int, bytes]) -> list[str]:
    """What is wrong with how a case ended; nothing, as a rule."""
    begun = time.monotonic()
    with Site(folder, case.steps, database.url if case.kind == "postgresql" else None) as site:
        if case.steps not in alone:
            alone[case.steps] = let_alone(folder / "alone", site)
        try:
            ended = under_a_run(site, case.outage, case.when)
            wrong = ended.faults(alone[case.steps]) + otherwise_than_meant(case, ended)
        except AssertionError:
            ended, wrong = None, [f"not ended {LONGEST_RUN:.0f} s later"]
    away = f"{ended.away:5.0f} s until all answered" if ended else ""
    under = f"{case.steps} steps, {UNDER[case.goes_on]}"
    how = "; ".join(wrong) or "as if nothing had been"
    print(f"{case.kind:10} {case.told:26} {under:34} {away}  {how}  ({time.monotonic() - begun:.0f} s)", flush=True)
    return wrong


def otherwise_than_meant(case: Case, ended: Ended) -> list[str]:
    """A case that was another one proves nothing."""
    if case.goes_on is None or ended.trained is case.goes_on:
        return []
    return ["the training went on when all was back" if ended.trained else "the training had ended before"]


if __name__ == "__main__":
    sys.exit(main())

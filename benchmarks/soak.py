"""Requests for an hour on one `ltx-flows serve` whose parts are killed in turn, and whether each client got its due.

    python benchmarks/soak.py [--requests 300 --clients 20 --minutes 60 --kill-every 180 --seed 0] [--postgresql]

Clients submit with an Idempotency-Key, poll, and ask again where nobody answers; some requests are the same as others.
`kill -9` of Prefect's server, its keeper, the worker, the run, its training, `serve` itself (started again at once) and
PostgreSQL, one after another. At the end: every request answered with 200, in the register once, billed once, told by
webhook, the same bytes for the same request; every part back; memory and open files of long-lived processes flat.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psutil
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support import postgres
from tests.support import service as serving
from tests.support.killer import PASSING, Kill, Killer, part_of
from tests.support.service import Receiver, Service, small_request

LASTING = ("API", "keeper", "Prefect's server", "worker")
LONGEST_AWAY = 90.0  # seconds, of a part that was killed
SHARE_REPEATED = 0.3  # of the requests: the same as an earlier one
SHARE_OF_THE_TIME = 0.8  # in which requests come; then the queue is worked off
SECONDS_BETWEEN_POLLS, SECONDS_BETWEEN_SAMPLES = 1.0, 10.0
LONGEST_STANDSTILL = 600.0  # without the end of any request: then nothing comes any more
SECONDS_FOR_WEBHOOKS = 150.0  # one that a kill cut short is told again after a minute
SECONDS_TO_END = 60.0
FEWEST_SAMPLES = 24  # of one process, to judge it by
MOST_GROWTH, MOST_MIB, MOST_FILES = 1.1, 8.0, 4  # from its second quarter to its last; of memory, either is allowed


class Overdue(Exception):
    """Nothing comes any more."""


@dataclass
class Asked:
    """A request, and what its client got."""

    body: dict[str, Any]
    at: float  # seconds from the beginning
    request_id: str = ""
    code: int = 0
    lora: str = ""  # its hash
    waited: float = 0.0


class Sample(NamedTuple):
    """One look at a process."""

    mib: float
    files: int


class Soak:
    """A service, its clients, and what is seen of it."""

    def __init__(self, asked: list[Asked], service: Service, options: argparse.Namespace) -> None:
        self.asked, self.service, self.options = asked, service, options
        self.trust = service.trusted
        self.done, self.troubles = threading.Event(), Counter[str]()
        self.samples: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)  # by part and process
        self.begun = self.ended = time.monotonic()  # the latter: when a request came to its end, for the last time

    def be_client(self, number: int, webhook: str) -> None:
        """One client: its requests one after another, each when its time has come."""
        with httpx.Client(verify=self.trust, timeout=30, trust_env=False) as http, suppress(Overdue):
            for asked in self.asked[number :: self.options.clients]:
                comes = self.begun + asked.at
                time.sleep(max(0.0, comes - time.monotonic()))
                self.ended = max(self.ended, comes)  # until then there may have been nothing to do
                began = time.monotonic()
                self.obtain(http, asked, webhook)
                asked.waited, self.ended = time.monotonic() - began, time.monotonic()

    def obtain(self, http: httpx.Client, asked: Asked, webhook: str) -> None:
        """Submit, poll, fetch the result and its LoRA."""
        address, query = f"{self.service.api}/audio-extend-prefix", {"fal_webhook": webhook}
        key = {"Idempotency-Key": str(uuid4())}
        told = self.insist("submit", lambda: http.post(address, json=asked.body, headers=key, params=query)).json()
        asked.request_id = told["request_id"]
        while self.insist("status", lambda: http.get(told["status_url"])).json()["status"] != "COMPLETED":
            time.sleep(SECONDS_BETWEEN_POLLS)
        answer = self.insist("result", lambda: http.get(told["response_url"]), asked.request_id)
        asked.code = answer.status_code
        if asked.code == 200:
            url = answer.json()["lora_file"]["url"]
            asked.lora = sha256(self.insist("file", lambda: http.get(url)).content).hexdigest()

    def insist(self, what: str, ask: Callable[[], httpx.Response], request_id: str = "") -> httpx.Response:
        """Ask again while nobody answers, or the service says that it cannot; what it says of the request counts."""
        while time.monotonic() - self.ended < LONGEST_STANDSTILL:
            try:
                answer = ask()
            except httpx.TransportError as error:
                self.troubles[f"{what}: {type(error).__name__}"] += 1
            else:
                if answer.status_code < 300 or answer.headers.get("x-fal-request-id") == request_id:
                    return answer
                self.troubles[f"{what}: {answer.status_code} {answer.text[:100]}"] += 1
            time.sleep(SECONDS_BETWEEN_POLLS)
        raise Overdue

    def sample(self) -> None:
        """Look at the processes that are to live long, now and then."""
        while not self.done.wait(SECONDS_BETWEEN_SAMPLES):
            for part in LASTING:
                for process in part_of(self.service.home, part):
                    with suppress(psutil.NoSuchProcess):
                        mib = process.memory_info().rss / 2**20
                        self.samples[part, process.pid].append(Sample(mib, process.num_fds()))


def requests(options: argparse.Namespace, small: dict[str, Any], dice: random.Random) -> Iterator[Asked]:
    """Evenly over the time, some of them the same as earlier ones."""
    bodies: list[dict[str, Any]] = []
    pause = options.minutes * 60 * SHARE_OF_THE_TIME / options.requests
    for number in range(options.requests):
        again = bodies and dice.random() < SHARE_REPEATED
        bodies.append(dice.choice(bodies) if again else small | {"trigger_phrase": f"hmm {number}"})
        yield Asked(bodies[-1], number * pause)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kill-every", type=float, default=180, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true", help="keep ledger and Prefect's database there")
    parser.add_argument("--folder", type=Path, help="a new folder, in which all stays; default: a temporary one")
    options = parser.parse_args()
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="soak-") if options.folder is None else None
        folder = Path(stack.enter_context(temporary)) if temporary else options.folder.absolute()
        database = stack.enter_context(postgres.database()) if options.postgresql else None
        settle(database)
        files = folder / "files"
        files.mkdir(parents=True)
        dice = random.Random(options.seed)
        asked = list(requests(options, small_request(files), dice))
        service = Service(folder / "home", files)
        stack.callback(service.stop)
        soak = Soak(asked, service, options)
        killer = Killer(service, database, dice, soak.done)
        with Receiver() as receiver:
            carry_out(soak, killer, receiver)
        print_all(soak, killer)
        wrong = [*faults(soak, receiver), *faults_of_parts(soak, killer.kills), *left(service)]
    print("\n".join(wrong) or "every request as if nothing had been")
    return int(bool(wrong))


def settle(database: postgres.Database | None) -> None:
    """What `serve` finds in its environment."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    serving.SERVE = [*serving.SERVE[:2], "--port", str(postgres.free_port()), "--tls-self-signed"]  # after a kill, too
    if database:
        os.environ["LTX_FLOWS_DATABASE_URL"] = database.url
        os.environ["LTX_FLOWS_PREFECT_DATABASE_URL"] = postgres.another(database.url, "prefect")


def carry_out(soak: Soak, killer: Killer, receiver: Receiver) -> None:
    """All requests and all kills, until the last client has its result or nothing comes any more."""
    options = soak.options
    killing = threading.Thread(target=killer.kill_in_turn, args=(options.kill_every, options.minutes * 60))
    sampling = threading.Thread(target=soak.sample)
    clients = [threading.Thread(target=soak.be_client, args=(n, receiver.url)) for n in range(options.clients)]
    for thread in (killing, sampling, *clients):
        thread.start()
    for client in clients:
        client.join()
    deadline = time.monotonic() + SECONDS_FOR_WEBHOOKS
    while time.monotonic() < deadline and (len(told_of(receiver)) < len(soak.asked) or killer.awaits()):
        time.sleep(SECONDS_BETWEEN_POLLS)
    soak.done.set()
    killing.join()
    sampling.join()


def told_of(receiver: Receiver) -> Counter[str]:
    """How often each request's end was told."""
    return Counter(each["request_id"] for each in receiver.heard)


def print_all(soak: Soak, killer: Killer) -> None:
    print(*killer.kills, sep="\n")
    ended = [each.waited for each in soak.asked if each.code]
    seconds, middle = time.monotonic() - soak.begun, statistics.median(ended or [0])
    print(f"{len(ended)} of {len(soak.asked)} requests ended in {seconds:.0f} s; ", end="")
    print(f"each took {middle:.0f} s in the middle and {max(ended, default=0):.0f} s at most")
    for trouble, times in sorted(soak.troubles.items()):
        print(f"{times:6} times asked again: {trouble}")
    for (part, pid), samples in soak.samples.items():
        if len(samples) >= FEWEST_SAMPLES:
            (before, after), minutes = quarters(samples), len(samples) * SECONDS_BETWEEN_SAMPLES / 60
            figures = f"{before.mib:.0f} -> {after.mib:.0f} MiB, {before.files} -> {after.files} open files"
            print(f"{part} {pid}, {minutes:.0f} minutes: {figures}")


def quarters(samples: list[Sample]) -> tuple[Sample, Sample]:
    """The medians of the second quarter and of the last."""
    quarter = len(samples) // 4
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (Sample(*map(statistics.median_low, zip(*part, strict=True))) for part in parts)
    return before, after


def faults(soak: Soak, receiver: Receiver) -> Iterator[str]:
    """What clients, the register, the ledger and webhooks say otherwise than they should."""
    codes = Counter(each.code for each in soak.asked)
    if codes.keys() != {200}:
        yield f"answers (0: none): {dict(codes)}"
    by_body = defaultdict(set)
    for each in soak.asked:
        by_body[each.body["trigger_phrase"]].add(each.lora)
    if several := {phrase: len(found) for phrase, found in by_body.items() if len(found) > 1}:
        yield f"different LoRAs for the same request: {several}"
    known = register(soak.service)
    if sorted(known) != sorted(each.request_id for each in soak.asked):
        yield f"the register has {len(known)} requests, which are not those of the clients"
    bills = Counter(bill["run_id"] for bill in soak.service.bills())
    print(f"{bills.total()} bills for {len(known)} requests")
    if bills != Counter(known.values()):
        yield f"bills too many: {bills - Counter(known.values())}, too few: {Counter(known.values()) - bills}"
    told, ok = told_of(receiver), {each["request_id"] for each in receiver.heard if each["status"] == "OK"}
    print(f"{len(told)} requests told by webhook, {sum(times > 1 for times in told.values())} of them more than once")
    if missing := [each.request_id for each in soak.asked if each.request_id not in ok]:
        yield f"no webhook said OK of {missing}"
    if others := [each["request_id"] for each in receiver.heard if each["status"] != "OK"]:
        yield f"a webhook said ERROR of {others}"


def register(service: Service) -> dict[str, str]:
    """The run of each request that the service knows."""
    engine = create_engine(os.environ.get("LTX_FLOWS_DATABASE_URL") or f"sqlite:///{service.home}/ledger.db")
    with engine.connect() as connection:
        found = {row.id: row.run_id for row in connection.execute(text("SELECT id, run_id FROM requests"))}
    engine.dispose()
    return found


def faults_of_parts(soak: Soak, kills: list[Kill]) -> Iterator[str]:
    """Kills that hit nothing, parts that stayed away, processes that grew."""
    for kill in kills:
        if not kill.pids:
            yield f"{kill.part}, {kill.at:.0f} s: it was not there to be killed"
        elif kill.part not in PASSING and (kill.back is None or kill.back > LONGEST_AWAY):
            yield f"{kill.part}, {kill.at:.0f} s: it was away for too long"
    for (part, pid), samples in soak.samples.items():
        if len(samples) >= FEWEST_SAMPLES:
            before, after = quarters(samples)
            if after.mib > max(before.mib * MOST_GROWTH, before.mib + MOST_MIB):
                yield f"{part} {pid}: its memory grew from {before.mib:.0f} to {after.mib:.0f} MiB"
            if after.files > before.files + MOST_FILES:
                yield f"{part} {pid}: its open files grew from {before.files} to {after.files}"


def left(service: Service) -> Iterator[str]:
    """Processes that outlive Ctrl-C."""
    service.stop()
    deadline = time.monotonic() + SECONDS_TO_END
    while (there := service.processes()) and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_POLLS)
    if there:
        yield f"left behind: {there}"


if __name__ == "__main__":
    sys.exit(main())

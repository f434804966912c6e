"""Chains of kills: a run that is killed again and again, at any moment, has to end as if it had been let alone."""

import json
import os
import random
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
from sqlalchemy import create_engine, text

from tests.support.clips import tone, video, zipped
from tests.support.crashing import STEPS
from tests.support.running import Runner, Server

TARGETS = ("tree", "tree", "training", "ffmpeg", "server")
LONGEST_RUN = 12.0  # seconds, about: kills are spread over so many
TRIES_AFTER_KILLS = 4
SECONDS_WITHOUT_SERVER = 5.0
DAY = 86400.0


def requests_in(folder):
    """A request for sounds and one for films with sound, each with a preview, as small as they can be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.wav", "b.wav", "c.m4a", "opening.wav"):
        tone(folder / name, 0.7 + len(name) / 50, peak=0.3 + ord(name[0]) / 500)
    (folder / "sounds.zip").write_bytes(zipped({name: folder / name for name in ("a.wav", "b.wav", "c.m4a")}))
    sounds = {
        "training_data_url": (folder / "sounds.zip").as_uri(),
        "rank": 8,
        "number_of_steps": 100,
        "audio_duration_seconds": 0.5,
        "conditioning_seconds": 0.2,
        "validation": [{"prompt": "on", "audio_url": (folder / "opening.wav").as_uri()}],
    }
    films = {f"{name}.mp4": video(folder / f"{name}.mp4", 12, sound=True, extra=hue(name)) for name in "ab"}
    (folder / "films.zip").write_bytes(zipped(films))
    small = {"resolution": "low", "aspect_ratio": "16:9"}
    both = {
        "training_data_url": (folder / "films.zip").as_uri(),
        "rank": 8,
        "number_of_steps": 100,
        "with_audio": True,
        "number_of_frames": 17,
        "auto_scale_input": True,
        "split_input_into_scenes": False,
        "stg_scale": 0,
        **small,
        **{f"validation_{name}": value for name, value in small.items()},
        "validation_number_of_frames": 17,
        "validation": [{"prompt": "on", "video_url": films["a.mp4"].as_uri()}],
    }
    bodies = {"audio-extend-prefix": sounds, "extend-prefix": both}
    for name, body in bodies.items():
        (folder / f"{name}.json").write_text(json.dumps(body))
    return {name: folder / f"{name}.json" for name in bodies}


def hue(name):
    return ("-vf", f"hue=h={90 * ord(name)}")


@dataclass
class Chain:
    """One run, and what happens to it; all of it follows from a seed."""

    seed: int
    kills: int
    endpoint: str
    on_s3: bool
    machines: int
    dice: random.Random = field(repr=False)

    @classmethod
    def of(cls, seed, endpoints=("audio-extend-prefix", "extend-prefix"), *, s3=True, two=True):
        dice = random.Random(seed)
        endpoint = dice.choices(endpoints, weights=[3, 1][: len(endpoints)])[0]
        machines = dice.choice((1, 1, 2)) if two else 1
        on_s3 = machines == 2 or (s3 and dice.random() < 0.4)
        return cls(seed, dice.randint(1, 4), endpoint, on_s3, machines, dice)

    def kill(self, server):
        """What is killed next, and when."""
        target = self.dice.choice(TARGETS)
        if target == "tree" and self.dice.random() < 0.6:
            return {"target": "tree", "step": self.dice.choice(STEPS), "point": self.dice.randint(1, 60)}
        longest = {"tree": LONGEST_RUN, "server": LONGEST_RUN, "training": 8.0, "ffmpeg": 0.05}[target]
        return {"target": target, "after": self.dice.random() * longest, "pid": server.process.pid}


@dataclass
class Ground:
    """Where chains take place: a runner, a server, and what teams share."""

    folder: Path
    runner: Runner
    server: Server
    requests: dict
    s3: dict | None = None
    postgresql: str | None = None

    def settings(self, chain):
        """The environment of one chain's machines."""
        shared = {"PREFECT_API_URL": self.server.url, "LTX_FLOWS_ALLOW_FILE_ROOT": str(self.folder)}
        if chain.on_s3:
            shared |= self.s3 | {
                f"LTX_FLOWS_{name.upper()}": f"s3://data/{chain.seed}/{name}" for name in ("store", "outputs")
            }
        if chain.machines == 2:
            engine = create_engine(self.postgresql, isolation_level="AUTOCOMMIT")
            with engine.connect() as database:
                database.execute(text(f"CREATE DATABASE chain{chain.seed}"))
            engine.dispose()
            shared["LTX_FLOWS_DATABASE_URL"] = f"{self.postgresql.rpartition('/')[0]}/chain{chain.seed}"
        return shared


@dataclass
class Ended:
    """How a chain ended."""

    told: dict
    kills: int
    tries: int
    homes: list
    settings: dict

    @property
    def result(self):
        return json.loads(self.told["out"])


def reference(ground, endpoint):
    """The same run, let alone."""
    home = ground.folder / f"whole-{endpoint}"
    settings = ground.settings(Chain(0, 0, endpoint, on_s3=False, machines=1, dice=random.Random()))
    told = ground.runner.run(home, ["run", endpoint, str(ground.requests[endpoint])], settings)
    assert told["code"] == 0, told["log"]
    pruned(ground, home, settings)
    return Ended(told, 0, 1, [home], settings)


def carry_out(ground, chain):
    """Kill the run as often as the chain says, and then let it come to its end."""
    settings = ground.settings(chain)
    homes = [ground.folder / f"chain-{chain.seed}-{number}" for number in range(chain.machines)]
    command = ["run", chain.endpoint, str(ground.requests[chain.endpoint])]
    killed = tries = 0
    run_id = None
    while True:
        ground.server.start()
        home = homes[tries % chain.machines]
        home.mkdir(exist_ok=True)
        kill = chain.kill(ground.server) if killed < chain.kills else None
        if kill and kill["target"] == "server":
            threading.Thread(target=begin_again, args=(ground.server,)).start()
        begun = time.monotonic()
        told = ground.runner.run(home, command, settings, kill, run_id)
        if os.environ.get("CHAINS_TOLD"):
            print(f"{time.monotonic() - begun:6.1f} s", kill, told["code"], told["worked"], flush=True)
        tries += 1
        killed += bool(kill and told["killed"])
        if told["code"] == 0:
            return Ended(told, killed, tries, homes, settings)
        if chain.machines == 2:
            run_id = run_id or run_of(homes[0])
        assert tries < chain.kills + TRIES_AFTER_KILLS, (chain, told["log"][-3000:])


def begin_again(server):
    """As whoever looks after a server does: start it again soon after it has died."""
    try:
        server.process.wait(LONGEST_RUN + 1)
    except subprocess.TimeoutExpired:  # the run was faster
        return
    time.sleep(SECONDS_WITHOUT_SERVER)
    server.start()


def run_of(home):
    """The run that a machine was working on when it was lost."""
    notes = [path.read_text().split() for path in (home / "runs").glob("*")]
    return notes[0][0] if notes and notes[0] else None


def path_of(file):
    return Path(unquote(urlsplit(file["url"]).path))


KINDS = ("blobs", "files", "latents", "adapters", "reels")  # what a run makes once, whoever is killed meanwhile


def verdict(ground, chain, ended, whole):
    """What is wrong with how a chain ended; nothing, as a rule."""
    wrong = []
    if lora_of(ended.result) != lora_of(whole.result):
        wrong.append("the LoRA differs from that of a run that was let alone")
    bills = json.loads(ground.runner.run(ended.homes[-1], ["bills", "--json"], ended.settings)["out"])
    if len(bills) != 1:
        wrong.append(f"{len(bills)} bills: {bills}")
    for home in ended.homes:
        pruned(ground, home, ended.settings)
        rooms = ("tmp", "work", "runs") if len(ended.homes) == 1 else ("tmp", "work")  # it ended on the other one
        if left := leftovers(home, rooms):
            wrong.append(f"left in {home}: {left}")
    kept, wanted = contents(ended, chain), contents(whole, None)
    if kept != wanted:
        wrong.append(f"the store has {sorted(kept - wanted)[:5]} too many and {sorted(wanted - kept)[:5]} too few")
    return wrong


def lora_of(result):
    url = result["lora_file"]["url"]
    return (
        httpx.get(url, trust_env=False).content if url.startswith("http") else path_of(result["lora_file"]).read_bytes()
    )


def pruned(ground, home, settings):
    """As if all of it had been left ten days ago, and somebody made room since."""
    then = time.time() - 10 * DAY
    for path in home.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)
    told = ground.runner.run(home, ["cache", "prune"], settings)
    assert told["code"] == 0, told["log"]


def leftovers(home, rooms):
    """What a run that has ended leaves and pruning does not take."""
    left = [path for room in rooms for path in (home / room).glob("*")]
    return [str(path.relative_to(home)) for path in (*left, *home.rglob("*.part"))]


def contents(ended, chain):
    """Addresses of what the store keeps, but for notes of runs, results of steps, and answers that pruning takes."""
    if chain and chain.on_s3:
        import s3fs

        root = f"data/{chain.seed}/store/"
        found = s3fs.S3FileSystem(use_listings_cache=False, endpoint_url=ended.settings["AWS_ENDPOINT_URL"]).find(root)
    else:
        root = f"{ended.homes[0]}/store/"
        found = [str(path) for path in Path(root).rglob("*") if path.is_file()]
    addresses = {path.removeprefix(root) for path in found}
    small_answers = {address for address in addresses if address.startswith("blobs/") and address.endswith(".json")}
    return {address for address in addresses - small_answers if address.split("/")[0] in KINDS}

"""Whatever the store does in between, a run ends in the same LoRA or in a clear error, and loses nothing.

The steps are run as the flow runs them, as plain functions, on a store that has lost one of its files and fails as the
seed says. The training is done once; that no case ever trains again is part of the promise.
"""

import random
import re
import shutil
from decimal import Decimal
from functools import lru_cache

import pytest

from models.ltx2 import bundle
from models.ltx2 import loading as models
from schemas.endpoints.audio_extend_prefix import PLAIN_AUDIO
from schemas.errors import LtxFlowsError, StoreDamaged, TransientError
from schemas.media import Bucket, FitOptions
from schemas.plan import Plan, Prefix, generate
from schemas.rejections import TRAINING_DATA
from schemas.result import Billing
from schemas.settings import settings
from schemas.training import Previewing, Training
from tasks import train, upload
from tasks.base_model import base, precision
from tasks.dataset.archive import extract_archive
from tasks.dataset.matching import match_samples
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_samples
from tasks.ledger.bills import bills, record
from tasks.reports.dataset_report import dataset_report
from tasks.sources.fetch import fetch
from tasks.storage.usage import addresses_in, record_usage
from tasks.train import train_adapter
from tasks.upload import upload_results
from tasks.validate import Decoders, make_reel
from tests.support.clips import tone, zipped
from tests.support.faults import Faulty, Trouble
from tests.support.jobs import events_of
from tests.support.sweeps import swept

pytestmark = pytest.mark.slow(seconds=15)

CASES = 200
MOST_CALLS = 120  # a run on a whole store makes about so many
BUCKET = Bucket(seconds=0.4)
PLAN = Plan(audio=generate(Prefix(steps=2)))
TRAINING = Training(rank=4, steps=3, learning_rate=1e-3)
TRIES = 3


def quietly(done, total):
    """Progress that nobody looks at."""


def run(archive):
    """The nine steps, each tried again as Prefect does where that may help."""
    file = tried(fetch, archive.as_uri(), TRAINING_DATA)
    matched = tried(match_samples, tried(extract_archive, file), PLAIN_AUDIO)
    clips = tried(fit_samples, matched.samples, BUCKET, PLAN.tracks, FitOptions())
    latents = tried(encode_clips, clips.samples, clips.samples[:1], "bad", Encoders(base(), precision()), quietly)[0]
    previewing = Previewing(plan=PLAN, bucket=BUCKET, stg_scale=1.0)
    plans = (PLAN,) * len(clips.samples)
    adapter = tried(train_adapter, latents, plans, TRAINING, previewing, base(), precision(), lambda event: None)
    reel = tried(make_reel, adapter, clips.samples[:1], PLAN, BUCKET, Decoders(base(), precision()), quietly)
    report = dataset_report(matched, clips, BUCKET)
    tried(record_usage, "run-1", addresses_in(file, matched, clips, latents, adapter, reel))
    tried(upload_results, "run-1", adapter, reel, report, {}, None)
    record("run-1", "audio-extend-prefix", Billing.of(100, Decimal("0.0022")))


def tried(step, *arguments):
    for _ in range(TRIES - 1):
        try:
            return step(*arguments)
        except (TransientError, OSError):
            continue
    return step(*arguments)


def run_as_the_flow_does(archive):
    """Once more from the first step where an artifact was damaged."""
    try:
        run(archive)
    except StoreDamaged:
        run(archive)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store after one run without trouble, on a base model that is loaded once."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("faults")
    names = ("a.wav", "b.wav", "c.wav")
    for number, name in enumerate(names):
        tone(folder / name, 0.5 + number / 10, peak=0.3 + number / 10)
    (folder / "sounds.zip").write_bytes(zipped({name: folder / name for name in names}))
    settled(patch, folder / "home", folder)
    patch.setenv("LTX_FLOWS_BASE_MODEL", base().location)
    patch.setattr(bundle, "fingerprint", lru_cache(bundle.fingerprint))
    for name in ("load_text", "load_audio_vae", "load_vocoder"):
        patch.setattr(models, name, lru_cache(getattr(models, name)))
    patch.setattr(upload, "version", lru_cache(upload.version))
    patch.setattr(train, "train_in_child", lambda job, on_event: events_of(job))
    settings.cache_clear()
    assert bills() == []
    shutil.copy(folder / "home" / "ledger.db", folder)
    run(folder / "sounds.zip")
    patch.setattr(train, "train_in_child", trained_again)
    yield folder
    patch.undo()


def trained_again(job, on_event):
    raise AssertionError("the adapter was lost")


def settled(patch, home, files):
    patch.setenv("LTX_FLOWS_HOME", str(home))
    patch.setenv("LTX_FLOWS_ALLOW_FILE_ROOT", str(files))
    patch.setenv("LTX_FLOWS_STORE", f"faulty://{home}/store")
    patch.setenv("LTX_FLOWS_OUTPUTS", f"faulty://{home}/outputs")
    patch.setattr(Faulty, "trouble", Trouble())
    patch.setenv("LTX_FLOWS_STORE_PATIENCE_SECONDS", "0")
    settings.cache_clear()


@pytest.fixture
def case(trained, tmp_path, monkeypatch):
    """A HOME of its own, whose store is that of the finished run."""
    monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", str(next((trained / "home" / "base").iterdir())))
    settled(monkeypatch, tmp_path / "case", trained)
    shutil.copytree(trained / "home" / "store", tmp_path / "case" / "store")
    shutil.copy(trained / "ledger.db", tmp_path / "case")
    return trained


def lose_one(store, dice):
    """Remove or damage a file that can be made anew; training and reel cannot be, at this price."""
    kept = [path for name in ("adapters", "reels") for path in (store / name).rglob("*") if path.is_file()]
    needed = {blob for note in kept for blob in re.findall(r"[0-9a-f]{64}", note.read_text())}
    files = sorted(path for path in store.rglob("*") if path.is_file())
    path = dice.choice([path for path in files if path not in kept and path.stem not in needed])
    path.unlink() if dice.random() < 0.5 else path.write_bytes(b"damaged")


def files_of(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def lora_of(home):
    return (home / "outputs" / "run-1" / "lora.safetensors").read_bytes()


@pytest.mark.parametrize("seed", swept(range(CASES), short=40))
def test_trouble_ends_in_the_same_lora_or_a_clear_error_and_loses_nothing(seed, case, tmp_path, monkeypatch):
    home, archive = tmp_path / "case", case / "sounds.zip"
    lose_one(home / "store", random.Random(seed))
    before = files_of(home / "store")
    monkeypatch.setattr(Faulty, "trouble", Trouble.of(seed, MOST_CALLS))
    try:
        run_as_the_flow_does(archive)
    except LtxFlowsError as error:
        assert str(home) in str(error)
        assert bills() == []
        monkeypatch.setattr(Faulty, "trouble", Trouble())
        run_as_the_flow_does(archive)
    assert lora_of(home) == lora_of(case / "home")
    assert len(bills()) == 1
    assert before <= files_of(home / "store")
    assert list((home / "tmp").glob("*")) == []

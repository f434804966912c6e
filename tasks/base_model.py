"""The base model of the settings: its name, its revision, its folder, and the fingerprints of its weights."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect.context import TaskRunContext

from models.ltx2 import bundle
from models.ltx2 import loading as base_model
from schemas.media import Frozen
from schemas.settings import BaseWeights, settings
from tasks.run_id import current_run
from tasks.sources.hub import fetch_snapshot, newest_revision, snapshot
from tasks.step import Progress, listed, told_step
from tasks.storage.home import private_home
from tasks.storage.locks import locked
from tasks.storage.store import key_of, store

Weights = dict[str, str]  # component -> fingerprint; goes into cache keys, where paths must not
Shown = Callable[[int, int], None]

ENCODERS = ("vae", "audio_vae", "text_encoder", "tokenizer", "connectors")
PINS = "pins"
COMPONENTS = (*ENCODERS, "transformer", "vocoder")


class Base(Frozen):
    """A base model that this installation trains; one of the Hub has one revision, so that a run never mixes two."""

    id: str
    revision: str | None = None
    fingerprints: Weights

    def weights(self, *components: str) -> Weights:
        return {component: self.fingerprints[component] for component in components}

    @property
    def random_weights(self) -> bool:
        return bundle.is_tiny(self.id)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever uses a LoRA of this base has to know."""
        if self.random_weights:
            return (f"the base model {self.id} has random weights: its previews are noise, and its LoRA is for tests",)
        return ()

    @property
    def location(self) -> str:
        """Folder of the base model on this machine; a machine that continues another one's run fetches the model first.

        Raises:
            BaseModelUnavailable: it cannot be fetched, or is damaged.
        """
        return _located(self.id, self.revision, str(settings().home_folder))


class Precision(Frozen):
    """Numerical precision of this machine's computations with the base model: results depend on it."""

    dtype: str
    text_encoder: BaseWeights


def precision() -> Precision:
    """The precision of this process's device and settings."""
    dtype = base_model.pick_dtype(base_model.pick_device(settings().device))
    return Precision(dtype=str(dtype), text_encoder=settings().text_encoder_weights)


def base() -> Base:
    """The base model of the settings, as far as it is on this machine; the tiny one is built at its first use.

    Nothing is downloaded.

    Raises:
        BaseModelUnavailable: it is neither a folder nor a Hub id that has been downloaded, or is damaged.
    """
    name = settings().base_model
    revision = None if bundle.is_here(name) else snapshot(name, COMPONENTS).name
    return _described(name, revision, str(settings().home_folder))


@lru_cache(maxsize=2)
def _described(name: str, revision: str | None, home: str) -> Base:
    location = _located(name, revision, home)
    prints = {component: bundle.fingerprint(location, component) for component in COMPONENTS}
    return Base(id=name, revision=revision, fingerprints=prints)


@lru_cache(maxsize=4)
def _located(name: str, revision: str | None, home: str) -> str:
    if revision is None:
        with locked(private_home() / "base.lock"):  # one process looks and builds the tiny one at a time
            return bundle.resolve(name, Path(home))
    return str(fetch_snapshot(name, revision, COMPONENTS, lambda done, total: None))


def once_per_run(context: TaskRunContext, arguments: dict[str, Any]) -> str:
    """Cache key: a run and its retries look the base model up once; another run looks again."""
    return f"base/v2/{context.task_run.flow_run_id}/{key_of(arguments['name'])}"


def _told(model: Base) -> str:
    return (f"{model.id} at revision {model.revision}" if model.revision else model.id) + listed(model.warnings)


@told_step("base model", _told, cache_key_fn=once_per_run, retries=2, retry_delay_seconds=[10, 60])
def base_model_of(name: str) -> Base:
    """The base model, fetched where it is not here yet, with the fingerprints of its weights."""
    if bundle.is_here(name):
        found = _described(name, None, str(settings().home_folder))
    else:
        revision = _pinned(name)
        progress = Progress("base-model", "Bytes of the base model")
        fetch_snapshot(name, revision, COMPONENTS, progress)
        found = _described(name, revision, str(settings().home_folder))
    return found


def _pinned(name: str) -> str:
    """The revision for this run: asked of the Hub once, whichever machine continues the run."""
    note = f"{PINS}/{current_run()}"
    if known := store().read_text(note):
        return known
    revision = newest_revision(name, COMPONENTS)
    store().write_text(revision, note)
    return revision

"""The base model of the settings: what the user calls it, where it is, and what its weights are."""

from functools import lru_cache

from models import base as base_model
from schemas.media import Frozen
from schemas.settings import settings

Weights = dict[str, str]  # component -> fingerprint; goes into cache keys, where paths must not

ENCODERS = ("vae", "audio_vae", "text_encoder", "tokenizer", "connectors")
COMPONENTS = (*ENCODERS, "transformer", "vocoder")


class Base(Frozen):
    """A base model that this installation trains."""

    id: str
    location: str
    fingerprints: Weights

    def weights(self, *components: str) -> Weights:
        return {component: self.fingerprints[component] for component in components}

    @property
    def random_weights(self) -> bool:
        return base_model.is_tiny(self.id)


def base() -> Base:
    """The base model of the settings; the tiny one is built at its first use.

    Raises:
        BaseModelUnavailable: it is neither a folder nor a Hub id that can be read.
    """
    return _describe(settings().base_model, str(settings().home_folder))


@lru_cache(maxsize=2)
def _describe(name: str, home: str) -> Base:
    location = base_model.resolve(name, settings().home_folder)
    prints = {component: base_model.fingerprint(location, component) for component in COMPONENTS}
    return Base(id=name, location=location, fingerprints=prints)

"""The base model, looked at by its headers, and the Hub: token and licences. Nothing is downloaded."""

import os
from pathlib import Path

from huggingface_hub import constants, get_token

from models.ltx2 import bundle
from schemas.errors import BaseModelNotHere
from schemas.settings import settings
from tasks.base_model import COMPONENTS, base
from tasks.checks.finding import Finding
from tasks.sources.hub import may_be_read, snapshot

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
GET_ONE = "accept the model's licences on huggingface.co, then log in with `hf auth login` or set HF_TOKEN"


def base_model() -> Finding:
    """Check of the base model, as far as it is here.

    Raises:
        BaseModelUnavailable: it is damaged, incomplete, or can be nowhere.
    """
    name = settings().base_model
    if bundle.is_tiny(name):
        return Finding("base model", True, f"{name} at {base().location}: {bundle.RANDOM_WEIGHTS}")
    try:
        folder = Path(name).expanduser() if bundle.is_here(name) else snapshot(name, COMPONENTS)
    except BaseModelNotHere as absent:
        return Finding("base model", True, str(absent))
    weights = bundle.check_headers(folder)
    return Finding("base model", True, f"{name} at {folder}, {weights} weights; by their headers the files are whole")


def hub(*, online: bool = False) -> Finding:
    """Check of the Hub's token, and, asked for, of the licences: the one look that needs the network.

    Raises:
        BaseModelUnavailable, DownloadInterrupted: the Hub refuses, or does not answer.
    """
    what, name = "Hub", settings().base_model
    where = next((each for each in TOKENS if os.environ.get(each)), constants.HF_TOKEN_PATH)
    token = f"a token is in {where}" if get_token() else "no token"
    if bundle.is_here(name):
        return Finding(what, True, f"{token}; not needed, the base model is no model of the Hub")
    if online:
        may_be_read(name)
        return Finding(what, True, f"{token}; {name} may be read")
    if get_token():
        return Finding(what, True, f"{token}; whether its licences are accepted: ltx-flows doctor --online")
    try:
        snapshot(name, COMPONENTS)
    except BaseModelNotHere:
        return Finding(what, False, f"{token} to fetch {name}: {GET_ONE}; if it needs none: ltx-flows doctor --online")
    return Finding(what, True, f"{token}; not needed, {name} is here")

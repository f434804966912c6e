"""The doctor: programs and places that are ready on this machine or missing, each with the line to type."""

import os
import socket
from dataclasses import dataclass

from flows.hosting.prefect_server import healthy
from flows.serve import Serving
from models.ltx2 import loading as base_model
from schemas.errors import BaseModelNotHere, LtxFlowsError
from schemas.settings import settings
from tasks.base_model import base
from tasks.ledger.bills import bills
from tasks.media.ffmpeg import tools
from tasks.media.programs import PACKAGES


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    ready: bool
    state: str


def examine() -> list[Finding]:
    """Check programs, device, base model, folders and ledger; nothing is started or trained."""
    programs = (_program(name, version) for name, version in tools().items())
    return [*programs, _device(), _base(), *_places(), _ledger(), _prefect(), _port()]


def _program(name: str, version: str | None) -> Finding:
    return Finding(name, version is not None, version or f"type: apt-get install {PACKAGES[name]}")


def _device() -> Finding:
    device = base_model.pick_device(settings().device)
    return Finding("device", True, f"{device}, {base_model.pick_dtype(device)}")


def _base() -> Finding:
    """Check of the base model, as far as it is here: nothing is downloaded."""
    try:
        model = base()
    except BaseModelNotHere as absent:
        return Finding("base model", True, str(absent))
    except LtxFlowsError as error:
        return Finding("base model", False, str(error))
    note = ", random weights: previews are noise" if model.random_weights else ""
    return Finding("base model", True, f"{model.id} at {model.location}{note}")


def _places() -> list[Finding]:
    return [
        Finding(what, True, url) for what, url in (("store", settings().store_url), ("outputs", settings().outputs_url))
    ]


def _ledger() -> Finding:
    return Finding("ledger", True, f"{len(bills())} bills")


def _prefect() -> Finding:
    given = os.environ.get("PREFECT_API_URL")
    if not given:
        return Finding("Prefect server", True, "one of its own, while it is needed")
    ready = healthy(given)
    return Finding(
        "Prefect server", ready, given if ready else f"{given} does not answer: start it or unset PREFECT_API_URL"
    )


def _port() -> Finding:
    """Check of the port that `serve` listens on unless told otherwise."""
    at = Serving()
    with socket.socket() as probe:
        taken = probe.connect_ex((at.host, at.port)) == 0
    return Finding(
        "API port", True, f"{at.port}, {'taken: `serve` runs, or needs another --port' if taken else 'free'}"
    )

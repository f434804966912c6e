"""The doctor: what is ready on this machine and what is missing, each with its remedy. The list always has its end.

A check that raises, hangs or cannot even be imported is a failing line of its own.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from typing import Any

from flows.hosting.prefect_server import healthy
from schemas.errors import LtxFlowsError, SettingsUnreadable
from schemas.redaction import in_a_line
from schemas.settings import settings
from tasks.checks.finding import Finding

SECONDS = 60.0  # that one check may take
PROGRAMS = ("ffmpeg", "ffprobe", "rubberband")
Check = Callable[[], Finding]


def examine(*, online: bool = False) -> Iterator[Finding]:
    """Check everything; nothing is started, downloaded or trained.

    Args:
        online: ask the Hub whether the base model may be read.
    """
    try:
        settings()
        faults: dict[str, str] = {}
    except SettingsUnreadable as error:
        faults = error.faults
    yield from (Finding("setting", False, line) for line in faults.values())
    if not faults:
        yield Finding("settings", True, "all of them can be read")
    with _without(faults):  # the others are looked at all the same
        for what, check in _checks(online):
            yield _finding(what, check)


def _checks(online: bool) -> list[tuple[str, Check]]:
    programs = [(name, _from("programs", "program", name)) for name in PROGRAMS]
    return [
        *programs,
        ("C compiler", _from("programs", "compiler")),
        ("device", _from("device", "device")),
        ("GPU memory", _from("device", "gpu_memory")),
        ("main memory", _from("places", "main_memory")),
        ("disk", _from("places", "disk")),
        ("base model", _from("base_model", "base_model")),
        ("Hub", _from("base_model", "hub", online=online)),
        ("store", _from("places", "place", "store", settings().store_url)),
        ("outputs", _from("places", "place", "outputs", settings().outputs_url)),
        ("ledger", _from("places", "ledger")),
        ("Prefect server", _prefect),
        ("API port", _port),
    ]


def _from(module: str, name: str, *arguments: Any, **options: Any) -> Check:
    """A check of tasks.checks, imported when it is done: a torch that does not load fails that check alone."""

    def check() -> Finding:
        found: Finding = getattr(import_module(f"tasks.checks.{module}"), name)(*arguments, **options)
        return found

    return check


def _finding(what: str, check: Check) -> Finding:
    """What a check finds, in a thread that is left behind where it hangs."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.append(check())
        except (LtxFlowsError, OSError) as error:
            found.append(Finding(what, False, str(error)))
        except BaseException as error:  # noqa: BLE001  # a defect, of ours or of a library, ends no list
            found.append(Finding(what, False, f"the check itself failed ({in_a_line(error)})"))

    thread = Thread(target=look, name=what, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[0] if found else Finding(what, False, f"no answer in {SECONDS:.0f} s")


@contextmanager
def _without(names: dict[str, str]) -> Iterator[None]:
    """Settings as if the wrong ones were unset, and without patience for a store that is away."""
    before = dict(os.environ)
    wrong = {name.upper() for name in names}
    for name in [name for name in before if name.upper() in wrong]:
        del os.environ[name]
    os.environ["LTX_FLOWS_STORE_PATIENCE_SECONDS"] = "0"
    settings.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()


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
    from flows.serve import Serving  # noqa: PLC0415  # uvicorn, whose lack is no more than this check's

    at = Serving()
    with socket.socket() as probe:
        taken = probe.connect_ex((at.host, at.port)) == 0
    return Finding(
        "API port", True, f"{at.port}, {'taken: `serve` runs, or needs another --port' if taken else 'free'}"
    )

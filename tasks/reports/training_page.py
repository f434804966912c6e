"""A training on its run's page while it goes on: the loss curve and the latest preview, each at most every 30 s.

Previews are latents until the training has ended: with a real base the GPU has no room for a decoder beside it. One
frame of the latest is decoded on the processor, in a process of low priority that is bounded in time, and only where
main memory has room for it.
"""

import contextvars
import logging
import os
import subprocess
import sys
import threading
import time
from types import TracebackType

import psutil

from models.ltx2.bundle import folder_of
from tasks.reports.loss_curve import Points
from tasks.reports.run_page import loss_card, still_card
from tasks.storage.store import temporary_folder
from tasks.training.job import Event, Previewed, Stepped

SECONDS_BETWEEN = 30.0
SECONDS_TO_FIRST_CURVE = 5.0
STILL_SECONDS = 240.0  # that one picture may take; where that is not enough, no other is tried
MEMORY_FACTOR, MEMORY_BESIDE = 3, 6 * 2**30  # weights in float32, and what decoding 9 frames of the largest size takes
KINDS = {"vae": "A frame of the middle", "audio_vae": "The mel spectrogram"}
POLL_SECONDS = 0.2
log = logging.getLogger("ltx_flows.run")


class TrainingPage:
    """Hears a training's events, and shows losses and previews while the `with` block lasts."""

    def __init__(self, base: str, *, video: bool) -> None:
        self.base, self.component = base, "vae" if video else "audio_vae"
        self.losses: dict[str, Points] = {}
        self.curve_due = 0.0  # set by the first step: loading the model takes a while
        self.latest: Previewed | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=contextvars.copy_context().run, args=(self._draw_stills,), name="stills")

    def __enter__(self) -> "TrainingPage":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Previewed):
            self.latest = event
        elif isinstance(event, Stepped):
            for name, value in event.losses.items():
                self._note(self.losses.setdefault(name, []), event.step, value)
            self.curve_due = self.curve_due or time.monotonic() + SECONDS_TO_FIRST_CURVE
            if time.monotonic() >= self.curve_due:
                self.curve_due = time.monotonic() + SECONDS_BETWEEN
                loss_card(self.losses)

    def _note(self, points: Points, step: int, value: float) -> None:
        while points and points[-1][0] >= step:  # the training went back to its checkpoint
            points.pop()
        points.append((step, value))

    def _draw_stills(self) -> None:
        """Draw the latest preview from time to time, until the training has ended or one could not be drawn."""
        while not self.ended.wait(SECONDS_BETWEEN):
            preview, self.latest = self.latest, None
            if preview is None:
                continue
            if reason := self._obstacle() or self._draw(preview):
                if not self.ended.is_set():
                    log.info("no preview is shown while this training goes on: %s; the reel follows at its end", reason)
                return

    def _obstacle(self) -> str:
        """The reason why this machine cannot draw beside a training, or nothing."""
        folder = folder_of(self.base, self.component)
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        needed, free = MEMORY_FACTOR * weights + MEMORY_BESIDE, psutil.virtual_memory().available
        return f"decoding one takes {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free" if free < needed else ""

    def _draw(self, preview: Previewed) -> str:
        """Show one frame of a preview; the reason why that failed, or nothing."""
        with temporary_folder() as folder:
            picture = folder / "still.png"
            command = [sys.executable, "-P", "-m", "tasks.training.still", self.base, str(preview.path), str(picture)]
            hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            with subprocess.Popen(
                command, env=hidden, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as child:
                deadline = time.monotonic() + STILL_SECONDS
                while child.poll() is None and time.monotonic() < deadline and not self.ended.wait(POLL_SECONDS):
                    pass
                if child.poll() is None:
                    child.kill()
                    return f"decoding one takes more than {STILL_SECONDS:.0f} s"
                said = child.stderr.read().decode(errors="replace").strip() if child.stderr else ""
            if child.returncode or not picture.exists():
                return (said.splitlines() or [f"decoding one ended with code {child.returncode}"])[-1]
            still_card(picture.read_bytes(), preview.step, preview.sample, KINDS[self.component])
        return ""

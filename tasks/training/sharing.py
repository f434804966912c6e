"""Shared checkpoints: a training's newest one in the store, so that another machine can go on where this one was lost.

Only where the store is not this machine's own. `checkpoints/<key>/` in the store holds the newest checkpoint, the
previews before it, and one note that names both; the note is written last, and all three are removed at the training's
end. Copies are sent by a thread, so that the training never waits for them.
"""

import logging
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import MachineNotReady, StoreDamaged, TransientError
from schemas.media import Frozen
from schemas.settings import settings
from tasks.storage.durable import appearing
from tasks.storage.store import Artifact, file_sha256, store, temporary_folder
from tasks.training.checkpoint import checkpoint_of, copy_of, hash_of, set_step, step_of
from tasks.training.job import Event, Previewed, Saved

NOTE = "last.json"
SECONDS_TO_FINISH = 5.0  # of a copy that is under way when a training breaks off
log = logging.getLogger("ltx_flows.run")


class Shared(Frozen):
    """The files that another machine needs to go on."""

    step: int
    checkpoint: Artifact
    previews: dict[str, Artifact]


class Sharing:
    """The shared checkpoint of one training."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key, self.folder, self.room = key, folder, f"checkpoints/{key}"
        self.previews: dict[str, Artifact] = {}
        self.work: queue.SimpleQueue[Saved | Previewed | None] = queue.SimpleQueue()
        self.newest = 0
        self.over = threading.Event()

    @staticmethod
    def needed() -> bool:
        """Whether other machines reach the store at all: the usual one is below this machine's own HOME."""
        place = store().place
        return not place.is_local or not Path(place.root).is_relative_to(settings().home_folder)

    def restore(self) -> None:
        """Copy another machine's checkpoint into the folder, if it is further on than the one there."""
        shared = self._read()
        if shared is None or shared.step <= step_of(self.folder):
            return
        try:
            for name, artifact in shared.previews.items():
                self._fetch(artifact, self.folder / "previews" / name)
                with appearing(hash_of(self.folder / "previews" / name)) as part:
                    part.write_text(artifact.sha256)
            self._fetch(shared.checkpoint, checkpoint_of(self.folder))
        except StoreDamaged as damage:
            log.warning("%s: going on from this machine's own checkpoint, or from the beginning", damage)
            return
        set_step(self.folder, shared.step)
        self.previews = dict(shared.previews)
        log.info("going on from step %d, where another machine has left this training", shared.step)

    @contextmanager
    def sending(self) -> Iterator["Sharing"]:
        """Send the checkpoints that `hear` notes, for as long as the training goes."""
        thread = threading.Thread(target=self._send_all, name="sharing", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self.work.put(None)
            thread.join(SECONDS_TO_FINISH)

    def hear(self, event: Event) -> None:
        """Note an event of the training process."""
        if isinstance(event, Saved | Previewed):
            self.work.put(event)
            self.newest = event.step if isinstance(event, Saved) else self.newest

    def remove(self) -> None:
        """Remove the shared checkpoint of a training that has ended."""
        store().remove(f"{self.room}/{NOTE}")
        for file in store().place.files(self.room):
            store().remove(file.address)

    def _send_all(self) -> None:
        while (event := self.work.get()) and not self.over.is_set():
            try:
                self._send(event)
            except (TransientError, MachineNotReady, OSError) as error:
                log.warning("the checkpoint could not be shared (%s); the training goes on", error)

    def _send(self, event: Saved | Previewed) -> None:
        if isinstance(event, Previewed):
            name = event.path.name
            self.previews[name] = self._put(event.path, f"previews/{name}")
            return
        copy = copy_of(self.folder, event.step)
        if event.step == self.newest:  # else a newer one is waiting
            before = self._read()
            kept = self._put(copy, f"{event.step:05}.ckpt")
            if self.over.is_set():  # it may have ended for good meanwhile
                store().remove(kept.address)
                return
            note = Shared(step=event.step, checkpoint=kept, previews=self.previews)
            store().write_text(note.model_dump_json(), f"{self.room}/{NOTE}")
            if before and before.checkpoint != kept:
                store().remove(before.checkpoint.address)
        copy.unlink(missing_ok=True)

    def _put(self, path: Path, name: str) -> Artifact:
        address = f"{self.room}/{name}"
        artifact = {"address": address, "sha256": file_sha256(path), "size": path.stat().st_size}
        store().place.put(path, address)
        return Artifact.model_validate(artifact)

    def _read(self) -> Shared | None:
        """The shared checkpoint's note; None where the note or a file that it names is gone."""
        text = store().read_text(f"{self.room}/{NOTE}")
        try:
            return Shared.model_validate_json(text) if text else None
        except ValidationError:
            return None

    def _fetch(self, artifact: Artifact, final: Path) -> None:
        with temporary_folder() as folder, appearing(final) as part:
            try:
                shutil.copyfile(store().place.fetch(artifact.address, folder), part)
            except FileNotFoundError as error:
                raise StoreDamaged(f"{artifact.address} is gone") from error
            if file_sha256(part) != artifact.sha256:
                raise StoreDamaged(f"{artifact.address} differs from what was written")

"""The usage note of the run that is going, kept by a step of its own so that it is tried again where that helps."""

from pydantic import BaseModel

from tasks.step import effect
from tasks.storage.usage import addresses_in, record_usage


class Usage:
    """The note of one run: begun with it, added to after each step, closed at its end."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        note_usage(run_id, ())

    def note(self, *manifests: BaseModel) -> None:
        """These are in use from now on."""
        note_usage(self.run_id, tuple(addresses_in(*manifests)))

    def end(self) -> None:
        """Nothing is made any more."""
        note_usage(self.run_id, (), ended=True)


@effect("note what is used", [2, 10, 30])
def note_usage(run_id: str, addresses: tuple[str, ...], *, ended: bool = False) -> None:
    """Add to what a run uses."""
    record_usage(run_id, addresses, ended=ended)

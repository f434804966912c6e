"""The error tree: every error that ltx-flows raises, and who can mend it.

LtxFlowsError
├── InputRejected          the user mends it: HTTP 422, exit 2, never retried, billed 0; all in rejections.py
│   ├── RequestRejected        fields of the request (from pydantic, all of them)
│   ├── Rejections             several of the faults below, shown together
│   ├── DownloadRejected       a URL that cannot or must not be fetched
│   ├── ArchiveRejected        not a zip, or one that is unsafe or broken
│   ├── UnsupportedFile        a media file of a kind this endpoint does not take
│   ├── DuplicateName          two files that would be the same sample
│   ├── MissingRole            a sample without its target, reference or mask
│   ├── NothingFound           an archive without a single sample
│   ├── UnreadableClip         a media file that does not decode
│   ├── SilentClip             a clip that must carry sound has no audio track
│   ├── NothingLeft            every sample was skipped
│   └── ClipTooShort           a validation clip shorter than what it must give
├── TransientError         Prefect tries again; exit 1 when it does not pass
│   ├── DownloadInterrupted    the other side stopped answering
│   ├── ProgramKilled          ffmpeg or another program was ended by somebody else
│   ├── TrainingInterrupted    the training process was killed; it goes on from its checkpoint
│   ├── StoreUnavailable       a store or OUTPUTS did not answer, or not wholly
│   └── LedgerUnavailable      the ledger's database did not answer, or did not take the row
├── MachineNotReady        the operator mends it: exit 1
│   ├── SettingsUnreadable     LTX_FLOWS_ variables with wrong values or names
│   ├── MissingTool            ffmpeg, ffprobe or rubberband is not installed
│   ├── BaseModelUnavailable   the base model's folder or Hub id does not load
│   │   └── BaseModelNotHere       it is on the Hub, and not on this machine yet
│   ├── EncodingFailed         an encoder gives numbers that are none
│   ├── DeviceFull             a training does not fit the device's memory
│   ├── DeviceFailed           the device reported a fault, again and again
│   ├── TrainingHung           the training process said nothing for too long, again and again
│   ├── CheckpointMismatch     a training's checkpoint is damaged or of another job
│   ├── ServerUnavailable      no Prefect server could be reached or started
│   ├── StoreFull              no space is left
│   ├── StoreRefused           a place may not be read or written
│   ├── DatabaseDamaged        the ledger's or Prefect's database file cannot be read
│   └── DatabaseUnusable       the ledger's database is of a newer version, or its driver is not installed
├── StoreDamaged           an artifact is gone or differs from what was written
├── ConditionError         a condition that does not fit its clip: a defect of ours, exit 1
├── TrainingDiverged       the adapter's numbers went out of bounds; the user lowers learning_rate: exit 1, billed 0
└── TrainingFailed         the training process ended early: exit 1, billed 0
"""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


class LtxFlowsError(Exception):
    """Root of all errors that ltx-flows raises on purpose."""


class TransientError(LtxFlowsError):
    """A fault outside of ltx-flows that may pass by itself; Prefect tries again."""


class DownloadInterrupted(TransientError):
    """A download whose other side stopped answering or sent fewer bytes than promised."""


class ProgramKilled(TransientError):
    """A program of ours that was ended by a signal we did not send: its output so far counts for nothing."""


class TrainingInterrupted(TransientError):
    """A training process that was killed; tried again, the training goes on from its last checkpoint."""


class MachineNotReady(LtxFlowsError):
    """A fault in the set-up of this machine, to be mended first. Exit 1."""


class SettingsUnreadable(MachineNotReady):
    """Settings with values or names that are none, a line each. Exit 1."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__(faults)
        self.faults = faults  # name of the variable -> its line

    def __str__(self) -> str:
        return "\n".join(self.faults.values())


class MissingTool(MachineNotReady):
    """A missing program from the operating system's packages."""

    def __init__(self, tool: str, package: str, otherwise: str = "") -> None:
        super().__init__(tool, package, otherwise)
        self.tool, self.package, self.otherwise = tool, package, otherwise

    def __str__(self) -> str:
        return f"{self.tool} is not installed; type: apt-get install {self.package}{self.otherwise}"


class BaseModelUnavailable(MachineNotReady):
    """A base model whose folder or Hub id does not load."""


class BaseModelNotHere(BaseModelUnavailable):
    """A base model of the Hub that nobody has downloaded yet: the first run does."""


class EncodingFailed(MachineNotReady):
    """An encoder of the base model that gives numbers which are not finite; such numbers are never kept."""


class DeviceFailed(MachineNotReady):
    """A fault of the device in the middle of a training that came back after the training went on."""


class TrainingHung(MachineNotReady):
    """A training process that said nothing for too long, and again after it went on from its checkpoint."""


class DeviceFull(MachineNotReady):
    """A training that does not fit the device's memory, even at its most frugal."""


class CheckpointMismatch(MachineNotReady):
    """A training checkpoint that is damaged or of another job: never overwritten, never restarted from silently."""


class ServerUnavailable(MachineNotReady):
    """A Prefect server that could not be reached or started."""


class StoreDamaged(LtxFlowsError):
    """An artifact that is gone or differs from what was written."""


class ConditionError(LtxFlowsError):
    """A condition that does not fit the clip it is applied to."""


class TrainingDiverged(LtxFlowsError):
    """An adapter whose losses, gradients or previews are not finite any more. Never published, billed 0."""


class TrainingFailed(LtxFlowsError):
    """A training process that ended before the adapter was written. Billed 0."""


class StoreUnavailable(TransientError):
    """A store or output folder that did not answer, or broke off."""


class LedgerUnavailable(TransientError):
    """A ledger database that did not answer, or did not take the row."""


class StoreFull(MachineNotReady):
    """A place that has no space left for a file."""


class StoreRefused(MachineNotReady):
    """A place that may not be read or written by us."""


class DatabaseDamaged(MachineNotReady):
    """A database file that is cut or garbled. It is never replaced silently: that could bill a run twice."""


class DatabaseUnusable(MachineNotReady):
    """A ledger's database that this installation cannot use: of a newer version, or without its driver."""


def store_error(where: str, error: BaseException, *, refused: bool = False) -> LtxFlowsError:
    """The error for a fault of the file system or the network: names the place, and what would mend the fault."""
    number = getattr(error, "errno", None)
    if number in FULL:
        return StoreFull(f"no space is left for {where}; free some, with `ltx-flows cache prune` or by hand")
    if refused or number in REFUSED or isinstance(error, PermissionError):
        return StoreRefused(f"{where} may not be read or written ({_short(error)}); check its owner or credentials")
    return StoreUnavailable(f"{where} does not answer ({_short(error)}); check that it can be reached, and run again")


def _short(error: BaseException) -> str:
    """First line of an error's text: further lines may quote a signed request."""
    text = (str(error).splitlines() or [""])[0].split("?", 1)[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__

"""What can go wrong with the places that things are kept in: store, outputs and ledger. Part of errors.py's tree.

MayPass
├── StoreUnavailable       it did not answer, or not wholly: Prefect tries again; exit 1 when it does not pass
└── LedgerUnavailable      the database did not answer: the same
MachineNotReady
├── StoreFull              no space is left: exit 1
├── StoreRefused           it may not be read or written: exit 1
└── DatabaseDamaged        the ledger's or Prefect's database file cannot be read: exit 1
"""

import errno

from schemas.errors import LtxFlowsError, MachineNotReady, MayPass

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


class StoreUnavailable(MayPass):
    """A store or its outputs did not answer, or broke off."""


class LedgerUnavailable(MayPass):
    """The ledger's database did not answer, or did not take the row."""


class StoreFull(MachineNotReady):
    """No space is left where a file should go."""


class StoreRefused(MachineNotReady):
    """A place may not be read or written by us."""


class DatabaseDamaged(MachineNotReady):
    """A database file is cut or garbled. It is never replaced silently: that could bill a run twice."""


def store_error(where: str, error: BaseException, *, refused: bool = False) -> LtxFlowsError:
    """What a fault of the file system or the network means: which place it is, and what would mend it."""
    number = getattr(error, "errno", None)
    if number in FULL:
        return StoreFull(f"no space is left for {where}; free some, with `ltx-flows cache prune` or by hand")
    if refused or number in REFUSED or isinstance(error, PermissionError):
        return StoreRefused(f"{where} may not be read or written ({_short(error)}); check its owner or credentials")
    return StoreUnavailable(f"{where} does not answer ({_short(error)}); check that it can be reached, and run again")


def _short(error: BaseException) -> str:
    """Its first line: further ones may quote a signed request."""
    text = (str(error).splitlines() or [""])[0].split("?", 1)[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__

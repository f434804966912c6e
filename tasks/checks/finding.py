"""Result of one check, and how sizes are written in it."""

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    ready: bool
    state: str


def in_gb(size: float) -> str:
    """A size for people, in the unit that memory and disks are sold in."""
    return f"{size / GB:.1f} GB"

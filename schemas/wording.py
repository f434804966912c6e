"""Words of messages: numbers without needless digits, and lists cut to their first few names."""

from collections.abc import Sequence

FEW = 5  # names that a list shows


def plain(number: float) -> str:
    """A number with no more digits than a reader needs: 23.976, 24, 3.5."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def hundredths(seconds: float) -> float:
    """Seconds cut, not rounded, to hundredths: a length that is there."""
    return int(seconds * 100 + 1e-6) / 100


def listed(names: Sequence[str], most: int = FEW) -> str:
    """`a, b, c and 97 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def either(ways: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return f"{', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else "".join(ways)

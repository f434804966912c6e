"""Amounts, sizes, times and standings as people read them."""

from decimal import Decimal

from flows.service import past
from flows.service.register import Entry

UNITS = ("bytes", "KB", "MB", "GB", "TB")
standing = past.standing


def amount(usd: str | Decimal) -> str:
    """An amount of money, with cents."""
    exact = Decimal(usd)
    return f"{exact:,.2f} USD" if exact == round(exact, 2) else f"{exact.normalize():f} USD"


def size(count: int) -> str:
    """A number of bytes, in the unit that suits it."""
    number, unit = float(count), 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{number:.1f} {UNITS[unit]}"


def duration(entry: Entry) -> str:
    """How long a request took, in its two largest units."""
    seconds = round(entry.seconds or 0)
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""Figures as people read them. Pure."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from sentinel_gateway.core.pricing import NANO_PER_USD

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING: Final = "\u2013"
"""Stands where nothing is known."""
STEPS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
THOUSAND: Final = 1000
SMALL: Final = 10
"""Below this, a digit more is shown."""
LEAST: Final = 0.01
"""Per cent; below it a share is no more than that."""
DIMENSIONS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def count(number: float) -> str:
    """`12,345`, and `1.23 M` from a million on."""
    for size, unit in STEPS:
        if abs(number) >= size:
            digits = sum(abs(number) < bound * size for bound in (SMALL, SMALL * SMALL))
            return f"{number / size:,.{digits}f} {unit}"
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """`0`, `0.4`, `27`."""
    return f"{per_second:.1f}" if 0 < per_second < SMALL else count(per_second)


def share(part: float, whole: float) -> str:
    """`66.7%`, `0.15%`, `<0.01%`, or nothing of nothing."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < LEAST:
        return f"<{LEAST}%"
    return f"{percent:.2f}%" if 0 < percent < 1 else f"{percent:.1f}%"


def usd(amount: float | None) -> str:
    """`$1,234`, `$12.34`, `$0.0123`, `$0.000039`: what is small keeps two digits that say something."""
    if amount is None:
        return NOTHING
    size = abs(amount)
    if size == 0:
        return "$0"
    if size >= THOUSAND:
        return f"${amount:,.0f}"
    if size >= 1:
        return f"${amount:,.2f}"
    digits = next((places for places in range(2, 10) if size >= 10 ** (1 - places)), 9)
    return f"${amount:.{digits}f}"


def nano_usd(nano: int) -> str:
    """The same of nano-USD."""
    return usd(nano / NANO_PER_USD)


def millis(amount: float | None) -> str:
    """`0.42 ms`, `123 ms`, `1.23 s`."""
    if amount is None:
        return NOTHING
    if amount < THOUSAND:
        return f"{amount:.2f} ms" if amount < SMALL else f"{amount:.0f} ms"
    return f"{amount / THOUSAND:.2f} s" if amount < 100 * THOUSAND else f"{amount / THOUSAND:.0f} s"


def span(seconds: float) -> str:
    """`3 d 4 h`, `12 min`, `45 s`."""
    parts, rest = [], int(seconds)
    for size, unit in DIMENSIONS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or f"{rest} s"


def clock(at: float) -> str:
    """`14:03:44`, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def moment(at: float) -> str:
    """`2026-01-31 14:03`, UTC. A key may have any end."""
    with suppress(OverflowError):
        return f"{EPOCH + timedelta(seconds=at):%Y-%m-%d %H:%M}"
    return "after 9999"

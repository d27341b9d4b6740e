"""What an answer has cost and what a stored one saves, as headers, and at the end of a stream, whose head went before. Pure.

Amounts are USD, exact to the ninth decimal.
"""

from functools import lru_cache
from typing import Final

from sentinel_gateway.api.asgi import Header, Lines
from sentinel_gateway.core.caching import Entry
from sentinel_gateway.core.pricing import Basis, usd
from sentinel_gateway.core.record import Record

REMEMBERED: Final = 4096
"""Amounts whose headers are remembered: the same answers are served again and again."""
COST: Final = b"x-sentinel-cost-usd"
SAVED: Final = b"x-sentinel-saved-usd"
BASIS: Final = b"x-sentinel-cost-basis"
"""`estimated` or `unknown`; not sent where the amount goes by a known price and by what the provider has counted."""


def cost_headers(record: Record) -> Lines:
    """Of an answer from a provider; its cost is left out where no price is known."""
    return _paid(record.cost, record.saved, record.basis)


def saved_headers(entry: Entry) -> Lines:
    """Of a stored answer: it costs nothing, and saves what it has cost once."""
    return _paid(0, entry.cost, entry.basis)


def cost_comment(record: Record) -> bytes:
    """The same at the end of a stream, as a comment, which every reader of server-sent events passes over."""
    return b"".join(b": %b: %b\n\n" % line for line in _paid(record.cost, record.saved, record.basis))


@lru_cache(REMEMBERED)
def _paid(cost: int, saved: int, basis: Basis) -> Lines:
    lines: list[Header] = []
    if basis != "unknown":
        lines.append((COST, usd(cost).encode()))
    if saved:
        lines.append((SAVED, usd(saved).encode()))
    if basis != "price":
        lines.append((BASIS, basis.encode()))
    return Lines.of(lines)

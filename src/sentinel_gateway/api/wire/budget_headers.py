"""Budgets in headers: how the tightest that concerns a request stands. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.core.budgets import Account, Allowance
from sentinel_gateway.core.pricing import usd

BUDGET_HEADERS: Final = ("x-budget-limit", "x-budget-remaining", "x-budget-reset")
"""All names, for whoever must list them."""


def budget_headers(budgets: Sequence[tuple[Allowance, Account]]) -> Lines:
    """Its amount and what is left of it beside what is held, in USD, and when its window ends; nothing where there is none."""
    if not budgets:
        return Lines(b"")
    tightest, account = budgets[0]
    left = account.left(tightest)
    for allowance, other in budgets[1:]:
        if (less := other.left(allowance)) < left:
            tightest, left = allowance, less
    return _lines(tightest.limit, left, tightest.ends)


@lru_cache(maxsize=1024)
def _lines(limit: int, left: int, ends: int) -> Lines:
    """Remembered: hits cost nothing, so each is told the same."""
    before, after = _frame(limit, ends)
    return Lines(b"%b%b%b" % (before, usd(left).encode("ascii"), after))


@lru_cache(maxsize=1024)
def _frame(limit: int, ends: int) -> tuple[bytes, bytes]:
    """What stands before and behind what is left, the same until the window ends."""
    own, left, reset = BUDGET_HEADERS
    before = f"{own}: {usd(limit)}\r\n{left}: "
    return before.encode("ascii"), f"\r\n{reset}: {datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}\r\n".encode("ascii")

"""Budgets in headers: how the tightest that concerns a request stands. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
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
    allowance, account = min(budgets, key=lambda pair: pair[1].left(pair[0]))
    ends = datetime.fromtimestamp(allowance.ends, UTC)
    lines = (usd(allowance.limit), usd(account.left(allowance)), f"{ends:%Y-%m-%dT%H:%M:%SZ}")
    return Lines("".join(f"{name}: {value}\r\n" for name, value in zip(BUDGET_HEADERS, lines, strict=True)).encode("ascii"))

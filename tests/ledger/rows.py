"""Rows for tests, numbered."""

from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent

START = 1_780_000_000_000_000
"""Microseconds since 1970."""
SECOND = 1_000_000


def asked(number: int, *, at: int | None = None, attempt: int = 1) -> Intent:
    moment = START + number * SECOND if at is None else at
    route = "/v1/chat/completions"
    return Intent(f"{number:032x}", attempt, moment, "acme", "key_1", route, "small", "mock", "mock-small", reserved=900)


def spent(number: int, *, cost: int = 17, at: int | None = None, attempt: int = 1) -> Settled:
    return Settled(asked(number, at=at, attempt=attempt), "answered", Spent(12, 2, 3, 5, 1, cost, "2026-11-22"), duration=1200)


def handled(number: int, *, saved: int = 17, at: int | None = None) -> Handled:
    moment = START + number * SECOND if at is None else at
    route = "/v1/chat/completions"
    return Handled(
        f"{number:032x}", moment, "acme", "key_1", route, 200, "exact", "memory", "small", "mock", "mock-small", saved=saved
    )

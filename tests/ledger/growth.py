"""A ledger after so many requests: one in four asked a provider, names are as long as usual, callers name their requests."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sentinel_gateway.ledger.tables import DAY
from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent

MISSES = 4
"""One request in so many asks a provider."""
DAYS = 10
TOGETHER = 2000
ROUTE = "/v1/chat/completions"
MODELS = [("gpt-4o-mini", "openai", "gpt-4o-mini-2024-07-18"), ("claude", "anthropic", "claude-sonnet-4-5")]


def rows(requests: int, start: int) -> Iterator[Handled | Settled]:
    """Spread over ten days from `start` (microseconds since 1970)."""
    for number in range(requests):
        at, id_ = start + number * DAYS * DAY // requests, f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
        tenant, key = f"tenant-{number % 5}", f"key_{number % 20:016x}"
        model, provider, target = MODELS[number % len(MODELS)]
        asked = number % MISSES == 0
        outcome, tier = ("miss", "") if asked else ("exact", "redis")
        yield Handled(
            id_, at, tenant, key, ROUTE, 200, outcome, tier, model, provider, target, int(asked), prompt_tokens=812,
            completion_tokens=256, saved=0 if asked else 275_400, duration=1_234_567, upstream=1_200_000, first_byte=345_678,
            request_id=f"req-{id_[:20]}",
        )  # fmt: skip
        if asked:
            spent = Spent(812, 128, 0, 256, 64, 275_400, "2026-11-22")
            yield Settled(
                Intent(id_, 1, at, tenant, key, ROUTE, model, provider, target), "answered", spent, "", 1_200_000, 340_000
            )


def fill(database: Any, requests: int, start: int) -> int:
    """How many rows there are then."""
    count, coming = 0, rows(requests, start)
    while some := list(islice(coming, TOGETHER)):
        database.copy(some)
        count += len(some)
    return count

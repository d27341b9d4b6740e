"""What calls cost in the simulation, who may spend how much, and what the ledger has of it."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from sentinel_gateway.core.pricing import YOCTO_PER_TOKEN, Price, Rates
from sentinel_gateway.core.record import Attempt
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.ports.ledger import Handled, Intent, Settled

PRICE: Final = Price(Rates.of({"input": YOCTO_PER_TOKEN, "output": 2 * YOCTO_PER_TOKEN}))
"""1 and 2 USD for a million tokens."""
INPUT: Final = 20
"""Tokens of a request, at most."""
OUTPUT: Final = 8
"""Tokens that a request with a budget asks for; no answer here is longer."""
ATTEMPTS: Final = 3
MOST: Final = 1000 * (INPUT + 2 * OUTPUT)
"""Nano-USD that such a request may cost."""


def price(_: str) -> Price:
    return PRICE


def costing() -> Costing:
    return Costing(price, output=OUTPUT, attempts=ATTEMPTS)


class Books:
    """A `Ledger` that forgets nothing."""

    is_full = False

    def __init__(self) -> None:
        self.intents: list[Intent] = []
        self.settled: list[Settled] = []

    def intend(self, intent: Intent) -> None:
        self.intents.append(intent)

    def settle(self, settled: Settled) -> None:
        self.settled.append(settled)

    def handled(self, request: Handled) -> None:
        """Requests are told of by the app, which is not here."""

    def faults(self, calls: Iterable[tuple[str, str]], attempts: list[Attempt]) -> list[str]:
        """`calls` as the providers saw them, by request and target: each has one row that was intended, and one that ended."""
        seen, found = Counter(calls), []
        for what, rows in (("intended", self.intents), ("settled", [row.intent for row in self.settled])):
            written = Counter((row.request, f"{row.provider}/{row.target}") for row in rows)
            if written != seen:
                found.append(f"{what} beyond what was seen: {dict(written - seen)}, seen beyond that: {dict(seen - written)}")
        if len({(row.intent.request, row.intent.number) for row in self.settled}) != len(self.settled):
            found.append("a call was settled twice")
        told = Counter(
            (one.sentinel_id, one.number, one.ending, one.prompt_tokens, one.completion_tokens, one.cost) for one in attempts
        )
        kept = Counter(map(_as_told, self.settled))
        if told != kept:
            found.append(f"the ledger has {dict(kept - told)}, and was told of {dict(told - kept)}")
        return found

    def cost(self, request: str) -> int:
        """Of all calls that were made for a request, in nano-USD."""
        return sum(row.spent.cost for row in self.settled if row.intent.request == request)


def _as_told(row: Settled) -> tuple[object, ...]:
    spent = row.spent
    return (row.intent.request, row.intent.number, row.ending, spent.prompt_tokens, spent.completion_tokens, spent.cost)

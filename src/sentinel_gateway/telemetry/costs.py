"""Money by model and face: what was spent, and what stored answers have saved, since the start.

What was spent is told by the calls of providers, so that one which nobody waited for to its end counts as well, and so does one
made for our own sake; what was saved is told by the requests. Amounts are nano-USD and are only ever added.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import Metric

from sentinel_gateway.core.pricing import NANO_PER_USD, Costs
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.models import Models
from sentinel_gateway.telemetry.tallies import FAILED_FROM, HITS, OTHER

MOST: Final = 256
"""Pairs of a model and a face that are told apart; callers may name any model of a provider."""


FACES: Final = {"/v1/chat/completions": "chat"}
"""What a route is called where that is not its last word."""


def face(route: str) -> str:
    """What a route is called where money is told of."""
    return FACES.get(route) or route.rpartition("/")[2]


class CostTallies:
    """All accounts so far. Belongs to the event loop's thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._accounts: dict[tuple[str, str, str], Costs] = {}
        """By label, model and route: what was counted under a label stays there."""
        self._by_use: dict[tuple[str, str], Costs] = {}
        """Those that are written to, by model and route."""

    def __repr__(self) -> str:
        return f"<CostTallies of {len(self._accounts)} accounts>"

    def add(self, record: Record) -> None:
        """Count an answered request: as the ledger does, for its counts go on after a restart (`ledger/sums.py`)."""
        if record.outcome == "none" or record.status >= FAILED_FROM or record.error:
            return
        costs = self._by_use.get((record.model, record.route)) or self._open(record.model, record.route)
        costs.requests += 1
        costs.updated = record.at
        if record.outcome in HITS:
            costs.hits += 1
            costs.saved_tokens += record.prompt_tokens + record.completion_tokens
        costs.saved += record.saved

    def charge(self, attempt: Attempt) -> None:
        """Count what a call of a provider has used."""
        if not (attempt.prompt_tokens or attempt.completion_tokens or attempt.cost):
            return
        costs = self._by_use.get((attempt.model, attempt.route)) or self._open(attempt.model, attempt.route)
        costs.prompt_tokens += attempt.prompt_tokens
        costs.completion_tokens += attempt.completion_tokens
        costs.cost += attempt.cost
        costs.updated = attempt.at + attempt.seconds
        if attempt.basis == "estimated":
            costs.estimated += attempt.cost
        elif attempt.basis == "unknown":
            costs.unpriced += 1

    def _open(self, model: str, route: str) -> Costs:
        if len(self._accounts) >= MOST:
            return self._accounts.setdefault((OTHER, OTHER, OTHER), Costs())
        costs = self._accounts.setdefault((self._models.label(model), model, route), Costs())
        self._by_use[model, route] = costs
        return costs

    def _close_those_known_by_now(self) -> None:
        """What comes of a model that has become known goes to another account, as far as there is room for one."""
        for (label, model, route), costs in self._accounts.items() if len(self._accounts) < MOST else ():
            if label == OTHER and self._by_use.get((model, route)) is costs and self._models.label(model) != OTHER:
                del self._by_use[model, route]

    def all(self) -> Mapping[tuple[str, str], Costs]:
        """By model and face, as they stand."""
        told: defaultdict[tuple[str, str], Costs] = defaultdict(Costs)
        for (_, model, route), costs in self._accounts.items():
            told[model, face(route)].add(costs)
        return told

    def families(self) -> Iterator[Metric]:
        """As metrics. A model's name is the caller's word, so not each has a label of its own."""
        by_face: Counter[str] = Counter()
        by_model: dict[str, Costs] = {}
        for (label, _, route), costs in self._accounts.items():
            if costs.saved:
                by_face[face(route)] += costs.saved
            by_model.setdefault(label, Costs()).add(costs)
        self._close_those_known_by_now()
        yield catalogue.SAVED.of(((name,), _usd(saved)) for name, saved in by_face.items())
        told = by_model.items()
        yield catalogue.MODEL_REQUESTS.of(
            ((name, cache), count)
            for name, one in told
            for cache, count in (("hit", one.hits), ("miss", one.requests - one.hits))
        )
        yield catalogue.MODEL_TOKENS.of(
            ((name, kind), count)
            for name, one in told
            for kind, count in (("prompt", one.prompt_tokens), ("completion", one.completion_tokens))
        )
        yield catalogue.MODEL_COST.of(((name,), _usd(one.cost)) for name, one in told)
        yield catalogue.MODEL_SAVED.of(((name,), _usd(one.saved)) for name, one in told)


def _usd(nano_usd: int) -> float:
    return nano_usd / NANO_PER_USD

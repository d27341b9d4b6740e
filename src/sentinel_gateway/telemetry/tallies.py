"""Finished requests, counted by kind: one addition a request, from which every total and metric is a projection.

A kind is made of closed sets. Methods and tiers outside theirs are `other`, and the number of routes and of kinds is bounded,
so whatever callers send, memory and metrics do not grow.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from typing import Final, NamedTuple, get_args

import msgspec

from sentinel_gateway.core.caching import Tier
from sentinel_gateway.core.chat import MAX_TOKENS
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import BadRequest

LATENCY_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, as seed 002 has them."""
MAX_KINDS: Final = 800
MAX_ROUTES: Final = 64

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
TIERS: Final = frozenset(get_args(Tier)) | {""}
HITS: Final = frozenset({"exact", "semantic"})
FAILED_FROM: Final = BadRequest.status


class Totals(msgspec.Struct, frozen=True):
    """Counts since the start. Requests that failed, or were to bypass the cache, are in none of them."""

    exact_hits: int = 0
    semantic_hits: int = 0
    misses: int = 0

    @property
    def total(self) -> int:
        """Requests that the cache decided."""
        return self.exact_hits + self.semantic_hits + self.misses


class Kind(NamedTuple):
    """What requests are told apart by."""

    route: str
    method: str
    status: int
    outcome: str
    tier: str
    failed: bool


CROWDED_OUT: Final = Kind(route=OTHER, method=OTHER, status=0, outcome="none", tier="", failed=False)
"""The requests of all kinds for which there was no room."""


class Tally:
    """The requests of one kind. `buckets` counts them by duration, the last one those above all bounds."""

    __slots__ = ("buckets", "completion_tokens", "kind", "prompt_tokens", "seconds", "stored")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        self.seconds = 0.0
        self.stored = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def __repr__(self) -> str:
        return f"<Tally {self.requests} of {self.kind}>"

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    @property
    def hit(self) -> bool:
        """These were answered from the cache."""
        return self.kind.outcome in HITS


class Tallies:
    """All kinds of requests seen so far. Belongs to one thread, the event loop's."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[object, ...], Tally] = {}
        self._routes: set[str] = set()

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._by_kind)} kinds>"

    def add(self, record: Record) -> None:
        """Count one request."""
        failed = record.status >= FAILED_FROM or record.error != ""
        kind = (record.route, record.method, record.status, record.outcome, record.tier, failed)
        tally = self._by_kind.get(kind) or self._find(Kind(*kind))
        tally.buckets[bisect_left(LATENCY_BUCKETS, record.seconds)] += 1
        tally.seconds += record.seconds
        if record.stored:
            tally.stored += 1
        if record.prompt_tokens or record.completion_tokens:
            tally.prompt_tokens += min(record.prompt_tokens, MAX_TOKENS)
            tally.completion_tokens += min(record.completion_tokens, MAX_TOKENS)

    def _find(self, asked: Kind) -> Tally:
        kind = asked._replace(
            route=self._known(asked.route),
            method=asked.method if asked.method in METHODS else OTHER,
            tier=asked.tier if asked.tier in TIERS else OTHER,
        )
        if kind not in self._by_kind and len(self._by_kind) >= MAX_KINDS:
            kind = CROWDED_OUT
        return self._by_kind.setdefault(kind, Tally(kind))

    def _known(self, route: str) -> str:
        if route not in self._routes and len(self._routes) >= MAX_ROUTES:
            return OTHER
        self._routes.add(route)
        return route

    def all(self) -> Collection[Tally]:
        """Every tally, as it stands."""
        return self._by_kind.values()

    def totals(self) -> Totals:
        """The counts so far."""
        counts: Counter[str] = Counter()
        for tally in self.all():
            if not tally.kind.failed:
                counts[tally.kind.outcome] += tally.requests
        return Totals(exact_hits=counts["exact"], semantic_hits=counts["semantic"], misses=counts["miss"])

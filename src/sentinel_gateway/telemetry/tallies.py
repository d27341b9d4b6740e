"""Finished requests, counted by kind: one addition a request, from which every total and metric is a projection.

A kind is made of closed sets. Methods and tiers outside theirs are `other`, and the number of routes and of kinds is bounded,
so whatever callers send, memory and metrics do not grow.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator
from operator import add
from typing import Final, NamedTuple, get_args

import msgspec
from prometheus_client.samples import Exemplar

from sentinel_gateway.core.caching import Tier
from sentinel_gateway.core.chat import MAX_TOKENS
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import BadRequest, NotCached
from sentinel_gateway.telemetry.catalogue import LATENCY_BUCKETS
from sentinel_gateway.telemetry.percentiles import FINE, NOTHING, Counts, Window

MAX_KINDS: Final = 800
MAX_ROUTES: Final = 96
MAX_USES: Final = 24
"""Pairs of a route and an outcome whose percentiles are told."""

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
TIERS: Final = frozenset(get_args(Tier)) | {""}
NO_OUTCOME: Final = "none"
HITS: Final = frozenset({"exact", "semantic"})
DECIDED: Final = HITS | {"miss"}
PROVIDER: Final = "provider"
FAILED_FROM: Final = BadRequest.status
NOT_CACHED: Final = (NotCached.status, NotCached.code)
Use = tuple[str, str]
"""A route, and how the cache took part."""
Latest = tuple[str, float, float, str | None]
"""What came last of its kind: its id, how many seconds it took, when it began in Unix time, and its trace if that is sent."""


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
    stream: bool


CROWDED_OUT: Final = Kind(route=OTHER, method=OTHER, status=0, outcome="none", tier="", failed=False, stream=False)
"""The requests of all kinds for which there was no room."""
BUCKET_OF: Final = (*(bisect_left(LATENCY_BUCKETS, bound) for bound in FINE), len(LATENCY_BUCKETS))
"""The bucket of seed 002 that a fine one lies in."""


class Tally:
    """The requests of one kind, counted by duration in fine buckets; `own` by their time but for the wait for providers.

    `own` is None as long as none has waited: then it would be the same. `latest` has the last request of each of seed 002's
    buckets.
    """

    __slots__ = (
        "completion_tokens",
        "counts",
        "kind",
        "latest",
        "not_cached",
        "own",
        "prompt_tokens",
        "seconds",
        "stored",
        "waited",
    )

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.counts = [0] * (len(FINE) + 1)
        self.own: Counts | None = None
        self.latest: list[Latest | None] = [None] * (len(LATENCY_BUCKETS) + 1)
        self.seconds = 0.0
        self.waited = 0.0
        self.stored = 0
        self.not_cached = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def __repr__(self) -> str:
        return f"<Tally {self.requests} of {self.kind}>"

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def hit(self) -> bool:
        """These were answered from the cache."""
        return self.kind.outcome in HITS


def exemplar(latest: Latest | None) -> Exemplar | None:
    """A request that shows what a bucket is made of; its id is in its log line and in its answer's headers."""
    if latest is None:
        return None
    sentinel_id, seconds, at, trace_id = latest
    labels = {"sentinel_id": sentinel_id} if trace_id is None else {"sentinel_id": sentinel_id, "trace_id": trace_id}
    return Exemplar(labels, seconds, at)


class Tallies:
    """All kinds of requests seen so far. Belongs to one thread, the event loop's."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[object, ...], Tally] = {}
        self._routes: set[str] = set()
        self._window: Window[Use] = Window()

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._by_kind)} kinds>"

    def add(self, record: Record) -> None:
        """Count one request, whose record is `bare`."""
        if record.at >= self._window.turns_at:
            self.turn(record.at)
        failed = record.status >= FAILED_FROM or record.error != ""
        kind = (record.route, record.method, record.status, record.outcome, record.tier, failed, record.stream)
        tally = self._by_kind.get(kind) or self._find(Kind(*kind))
        seconds, waited, own = record.seconds, record.upstream_seconds, tally.own
        if waited or own is not None:
            if own is None:
                own = tally.own = tally.counts.copy()
            own[bisect_left(FINE, seconds - waited)] += 1
            tally.waited += waited
        place = bisect_left(FINE, seconds)
        tally.counts[place] += 1
        tally.seconds += seconds
        tally.latest[BUCKET_OF[place]] = (record.sentinel_id, seconds, record.at, record.trace_id if record.sampled else None)
        if record.stored:
            tally.stored += 1
        if failed and (record.status, record.error) == NOT_CACHED:
            tally.not_cached += 1
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

    def turn(self, now: float) -> None:
        """It is `now`: what is older than the window is left out of percentiles from here on."""
        if now >= self._window.turns_at:
            self._window.turn(now, {use: counts for use, (counts, _) in self._durations().items()})

    def recent(self) -> Iterator[tuple[Use, Counts, int, float]]:
        """Requests to models: their durations in the last minutes; how many there ever were, and their seconds."""
        for use, (counts, seconds) in self._durations().items():
            yield use, self._window.of(use, counts), sum(counts), seconds

    def _durations(self) -> dict[Use, tuple[Counts, float]]:
        whole: dict[Use, tuple[Counts, float]] = {}
        for tally in self.all():
            if tally.kind.outcome == NO_OUTCOME:
                continue
            use = (tally.kind.route, tally.kind.outcome)
            if use not in whole and len(whole) >= MAX_USES:
                use = (OTHER, OTHER)
            held, seconds = whole.get(use, (NOTHING, 0.0))
            whole[use] = (list(map(add, held, tally.counts)), seconds + tally.seconds)
        return whole

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

    def tiers(self) -> dict[str, tuple[int, float]]:
        """Where answers came from, `provider` for those that were in no tier: how many, and the seconds of all of them."""
        found: dict[str, tuple[int, float]] = {}
        for tally in self.all():
            kind = tally.kind
            if not kind.failed and kind.outcome in DECIDED:
                place = kind.tier if tally.hit else PROVIDER
                requests, seconds = found.get(place, (0, 0.0))
                found[place] = (requests + tally.requests, seconds + tally.seconds)
        return found

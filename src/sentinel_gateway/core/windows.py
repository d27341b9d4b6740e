"""What calls of providers came to within stretches of time: the figures that everything told of the past is made of. Pure.

Latencies are kept as counts in buckets, each less than a tenth wider than the one before: so windows can be added up, and
percentiles are still told to within a tenth, wherever in its bucket a latency lies.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, Self

import msgspec

BOUNDS: Final = tuple(round(1000 * 2 ** (step / 8)) for step in range(145))
"""Microseconds, 1 ms to 262 s. A call is in the first bucket whose bound it does not exceed; those beyond all are in one more."""
MICROS: Final = 1_000_000
MILLIS: Final = 1000
FAILURES: Final = frozenset({"unauthorized", "limited", "timeout", "unreachable", "broken"})
"""Endings that are the provider's part. What it refused anybody can bring about; how what was left had ended is not known."""
OTHER: Final = "other"
"""Stands for all models of a provider beyond those that are told apart."""

Series = tuple[str, str]
"""A provider, and a model by the provider's name for it."""


class Window(msgspec.Struct, array_like=True, gc=False):
    """The calls of one model of a provider that began within a stretch of time. `start` in Unix seconds.

    `requests` are all calls, `endings` how often they ended how. Tokens and `cost` (nano-USD) are of all of them. `latency`
    (the sum, in microseconds) and `buckets` (how many, by the index of their bound) are of those that were answered.
    """

    start: int
    provider: str
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    latency: int = 0
    first_token: int = 0
    """The sum of the times to the first token, in microseconds, of those that streamed."""
    streamed: int = 0
    endings: dict[str, int] = msgspec.field(default_factory=dict)
    buckets: dict[int, int] = msgspec.field(default_factory=dict)
    answered_tokens: int = 0
    """Of the completion tokens, those that took the time in `latency`: the rest is of calls that broke off or were left."""

    @property
    def series(self) -> Series:
        return self.provider, self.model

    @property
    def successes(self) -> int:
        return self.endings.get("answered", 0)

    @property
    def failures(self) -> int:
        return sum(count for ending, count in self.endings.items() if ending in FAILURES)

    @property
    def decided(self) -> int:
        """Calls of which it is known whether the provider did its part."""
        return self.successes + self.failures

    @property
    def timed(self) -> int:
        """Answered calls whose latency is known: that of those which retention has taken is not."""
        return sum(self.buckets.values())

    @property
    def mean(self) -> float:
        """Of the latency, in milliseconds; 0.0 where none is known."""
        return self.latency / self.timed / MILLIS if self.buckets else 0.0

    def add(self, other: Self) -> None:
        """Add another's figures to these."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cost += other.cost
        self.latency += other.latency
        self.first_token += other.first_token
        self.streamed += other.streamed
        self.answered_tokens += other.answered_tokens
        for ending, count in other.endings.items():
            self.endings[ending] = self.endings.get(ending, 0) + count
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count


def bucket_of(micros: int) -> int:
    """The bucket of a latency."""
    return bisect_left(BOUNDS, micros)


def percentile(buckets: Mapping[int, int], share: float) -> float:
    """The latency (milliseconds) that this share (0 to 1) of the calls does not exceed, within a tenth; 0.0 where there are none.

    Within its bucket it lies as far in as the share reaches.
    """
    known = sorted(buckets)
    reached = list(accumulate(buckets[bucket] for bucket in known))
    if not reached or not reached[-1]:
        return 0.0
    sought = share * reached[-1]
    place = bisect_left(reached, sought)
    bucket, count = known[place], buckets[known[place]]
    low = BOUNDS[bucket - 1] if bucket else 0
    high = BOUNDS[bucket] if bucket < len(BOUNDS) else low
    return (low + (high - low) * max(sought - (reached[place] - count), 0.0) / count) / MILLIS


def total(windows: Iterable[Window], *, start: int = 0, provider: str = "", model: str = "") -> Window:
    """All of them in one, under these names."""
    whole = Window(start, provider, model)
    for window in windows:
        whole.add(window)
    return whole

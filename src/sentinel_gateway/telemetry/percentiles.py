"""Durations, counted so finely that percentiles can be told of the last minutes. Pure, and no clock: callers say what time it is.

Requests are counted for ever, in buckets each 10 % wider than the one below. Once a minute the counts are kept; what came since
the oldest that are kept, is the window. So a request costs one addition, and what percentiles are wanted may change at any time.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, Generic, TypeVar

from sentinel_gateway.telemetry.catalogue import LATENCY_BUCKETS, OWN_BUCKETS

FIRST: Final = 0.00005
LAST: Final = 600.0
WIDER: Final = 1.1
KEPT: Final = 5
EVERY: Final = 60.0
"""Seconds between two looks."""


def _fine() -> tuple[float, ...]:
    steps = [FIRST]
    while steps[-1] < LAST:
        steps.append(steps[-1] * WIDER)
    return tuple(sorted({*steps, *LATENCY_BUCKETS, *OWN_BUCKETS}))


FINE: Final = _fine()
"""Upper bounds in seconds. Those of the histograms are among them, so that these are sums of the fine counts."""
Counts = list[int]
"""Of each fine bucket, and of what is longer than all."""
NOTHING: Final[Sequence[int]] = (0,) * (len(FINE) + 1)
K = TypeVar("K")


def coarse(counts: Sequence[int], buckets: Sequence[float]) -> Counts:
    """The same in fewer buckets, whose bounds must be among the fine ones."""
    below = (0, *accumulate(counts))
    ends = (0, *(bisect_left(FINE, bound) + 1 for bound in buckets), len(counts))
    return [below[end] - below[start] for start, end in pairwise(ends)]


def percentile(counts: Sequence[int], share: float) -> float:
    """The duration in seconds that `share` (0 to 1) of all do not exceed, to 10 % of it; NaN where there are none."""
    whole = sum(counts)
    if not whole:
        return float("nan")
    rank, below = share * whole, 0
    for place, count in enumerate(counts):
        if count and below + count >= rank:
            low = FINE[place - 1] if place else 0.0
            high = FINE[place] if place < len(FINE) else low
            return low + (high - low) * max(rank - below, 0.0) / count
        below += count
    return FINE[-1]


class Window(Generic[K]):
    """What was counted in the last four to five minutes, where counts themselves only grow."""

    def __init__(self) -> None:
        self._kept: deque[Mapping[K, Counts]] = deque(maxlen=KEPT)
        self.turns_at = 0.0
        """When the next look is due, in Unix time."""

    def __repr__(self) -> str:
        return f"<Window of {len(self._kept)} looks>"

    def turn(self, now: float, counts: Mapping[K, Counts]) -> None:
        """Keep these counts, which stand so until `now`; `counts` are its own from then on."""
        missed = int((now - self.turns_at) // EVERY) if self.turns_at else 0
        for _ in range(1 + min(missed, KEPT - 1)):
            self._kept.append(counts)
        self.turns_at = now + EVERY

    def of(self, use: K, counts: Sequence[int]) -> Counts:
        """What was added to the counts of `use` within the window."""
        before = self._kept[0].get(use) if self._kept else None
        return [now - then for now, then in zip(counts, before, strict=True)] if before else list(counts)

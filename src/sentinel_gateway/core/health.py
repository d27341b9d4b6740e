"""How well a provider does lately, as a score from 0 to 100: about the share of its last calls that it answered. Pure.

Each call that says something of the provider moves the score a twentieth of its way, to 100 if it was answered and to 0 if it
failed. So a provider that answers 95 of 100 calls stands around 95; one that is dead is degraded after 5 calls (100 * 0.95^5 =
77) and unhealthy after 14; one that is well again is healthy after 32. Where nobody calls, nothing changes: what is not asked
can't be known to be better. Calls that ended together are taken together, so their order among themselves does not matter.
"""

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final, Literal

Status = Literal["healthy", "degraded", "unhealthy"]
Sample = tuple[float, float]
"""When (Unix seconds), and the score then."""

BEST: Final = 100.0
"""Also of a provider of which nothing is known."""
WEIGHT: Final = 0.05
"""Of one call."""
HEALTHY: Final = 80.0
DEGRADED: Final = 50.0
LOOK_BACK: Final = 900.0
"""Seconds of history that a trend is made of."""
LOOK_AHEAD: Final = 600.0
"""Seconds for which a trend is carried on."""
FEWEST: Final = 5
"""Samples that make a trend."""


def kept(calls: int) -> float:
    """The share of a score that is left after so many calls."""
    return (1.0 - WEIGHT) ** calls


def scored(score: float, *, answered: int, failed: int) -> float:
    """The score after these calls. At least one."""
    share = kept(answered + failed)
    return share * score + (1.0 - share) * BEST * answered / (answered + failed)


def status(score: float) -> Status:
    """Healthy from 80 on, degraded from 50 on."""
    return "healthy" if score >= HEALTHY else "degraded" if score >= DEGRADED else "unhealthy"


def predicted(history: Sequence[Sample], score: float, *, now: float) -> float:
    """The score in 10 minutes if the trend of the last 15 goes on; the score itself where there is no trend to speak of.

    `history` ascends in time. The trend is the median of the slopes between all pairs (Theil and Sen), so that one bad minute
    makes none. Where nobody calls any more, none goes on.
    """
    recent = [sample for sample in history if sample[0] > now - LOOK_BACK]
    slopes = [(b - a) / (later - earlier) for (earlier, a), (later, b) in combinations(recent, 2) if later > earlier]
    if len(recent) < FEWEST or not slopes:
        return score
    return min(max(score + median(slopes) * LOOK_AHEAD, 0.0), BEST)

"""Percentiles of measured values, by linear interpolation between the two values around the rank. Pure."""

from collections.abc import Sequence
from typing import Final

BEST: Final = 100.0


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """The value below which `per_cent` (0 to 100) of them lie. `ordered` ascends, and holds at least one."""
    rank = (len(ordered) - 1) * per_cent / BEST
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def percentile_name(per_cent: float) -> str:
    """`p95`, and `p99_9` for 99.9: a name that any language takes for a member."""
    return f"p{per_cent:g}".replace(".", "_")

"""What the day has cost so far, and how much of it was extra, for evidence or for hedges: that may be a small share of all.

Amounts are nano-USD, days those of UTC. What was spent before the start is not known here, so the share is of what this process
has spent.
"""

from sentinel_gateway.core.pricing import DAY


class DayBook:
    """One day. `share` of its cost may be extra, 0 to 1."""

    def __init__(self) -> None:
        self.share = 0.0
        self._day = 0
        self._whole = 0
        self._extra = 0

    def __repr__(self) -> str:
        return f"<DayBook of day {self._day}: {self._extra} of {self._whole} nano-USD>"

    def note(self, cost: int, now: float, *, extra: bool) -> None:
        """So much was spent just now; it is `extra` if the caller would have been answered without it."""
        self._turn(now)
        self._whole += cost
        self._extra += cost if extra else 0

    def costs(self, now: float) -> tuple[int, int]:
        """The day so far: all, and the part that was extra."""
        self._turn(now)
        return self._whole, self._extra

    def allows(self, cost: int, now: float) -> bool:
        """May something extra cost so much now? What costs nothing is always allowed."""
        whole, extra = self.costs(now)
        return extra + cost <= self.share * whole or cost == 0

    def _turn(self, now: float) -> None:
        day = int(now // DAY)
        if day != self._day:
            self._day, self._whole, self._extra = day, 0, 0

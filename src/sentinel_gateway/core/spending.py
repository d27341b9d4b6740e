"""What the day has cost so far, and how much of it was extra, for evidence or for hedges: that may be a small share of all.

Amounts are nano-USD, days those of UTC. What earlier processes have spent counts where it was kept and is restored.
"""

import msgspec

from sentinel_gateway.core.pricing import DAY


class DayCost(msgspec.Struct, frozen=True, array_like=True):
    """What a day has cost, or a part of it, in nano-USD: all, and what of it was extra. `day` counts from 1970."""

    day: int
    whole: int = 0
    extra: int = 0


class DayBook:
    """One day. `share` of its cost may be extra, 0 to 1."""

    def __init__(self) -> None:
        self.share = 0.0
        self._day = 0
        self._whole = 0
        self._extra = 0
        self._kept = DayCost(0)
        """What of it is known elsewhere."""

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

    def restore(self, cost: DayCost, now: float) -> None:
        """Count what was kept, if it is of this day."""
        self._turn(now)
        if cost.day == self._day:
            self._whole += cost.whole
            self._extra += cost.extra
            self._kept = DayCost(cost.day, self._kept.whole + cost.whole, self._kept.extra + cost.extra)

    def take(self, now: float) -> DayCost:
        """What the day has cost since this was asked last, to be kept."""
        self._turn(now)
        before, self._kept = self._kept, DayCost(self._day, self._whole, self._extra)
        return DayCost(self._day, self._whole - before.whole, self._extra - before.extra)

    def put_back(self, cost: DayCost) -> None:
        """It could not be kept, and is to be taken again."""
        if cost.day == self._kept.day:
            self._kept = DayCost(cost.day, self._kept.whole - cost.whole, self._kept.extra - cost.extra)

    def _turn(self, now: float) -> None:
        day = int(now // DAY)
        if day != self._day:
            self._day, self._whole, self._extra = day, 0, 0
            self._kept = DayCost(day)

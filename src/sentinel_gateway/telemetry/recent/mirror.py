"""Shows circuits as they stand where seed 004's readers look for them: what is not closed is told anew each minute."""

import asyncio
from typing import TYPE_CHECKING, Final

from sentinel_gateway.core.standing import Standings
from sentinel_gateway.ports.recent import RecentMetrics
from sentinel_gateway.ports.world import Clock

if TYPE_CHECKING:
    from sentinel_gateway.core.circuit import State

LOOK: Final = 1.0
"""Seconds between two looks."""
REFRESH: Final = 60.0
"""Seconds after which it is told again, well before it is forgotten."""


class CircuitMirror:
    """Runs beside everything from `start` to `close`."""

    def __init__(self, standings: Standings, recent: RecentMetrics, clock: Clock) -> None:
        self._standings = standings
        self._recent = recent
        self._clock = clock
        self._told: dict[str, tuple[State, int, float]] = {}
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<CircuitMirror of {len(self._told)} that are not closed>"

    def start(self) -> None:
        """Look from now on."""
        self._looking = asyncio.create_task(self._look_for_ever())

    async def look(self) -> None:
        """Tell what has changed, and what would otherwise be forgotten."""
        now, before, self._told = self._clock(), self._told, {}
        for target, standing in list(self._standings.all()):
            state, failures, told = standing.circuit.state(now), standing.circuit.failures, before.get(target)
            if told is not None and told[:2] == (state, failures) and now < told[2] + REFRESH:
                self._told[target] = told
                continue
            if state != "closed":
                self._told[target] = (state, failures, now)
            if state != "closed" or told is not None:
                provider, _, model = target.partition("/")
                await self._recent.update_circuit_breaker(provider, model, state, failures)

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK)

"""What is known of all targets, on all nodes: whoever finds one failing tells the others, and whoever finds it well again.

A node does not ask the others anything. One that can't be reached learns by itself what they know.
"""

import asyncio
from collections import Counter
from contextlib import suppress

from sentinel_gateway.core.bulletin import CircuitTurned
from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.standing import Standings
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Bulletin, World


class Circuits:
    """The standings, and the turns of their circuits."""

    def __init__(self, standings: Standings, bulletin: Bulletin, world: World) -> None:
        self.standings = standings
        self.world = world
        self._bulletin = bulletin
        self._telling: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Circuits {self.standings!r}>"

    def states(self) -> dict[str, State]:
        """The circuits by target: of those that are compared with others, and of all that are not closed."""
        return self.standings.states(self.world.clock())

    def shown(self) -> dict[str, State]:
        """The same by model, as seeds 000 and 001 name them; by target where several providers have the model."""
        states = self.states()
        models = Counter(name.partition("/")[2] for name in states)
        return {(name if models[model := name.partition("/")[2]] > 1 else model): state for name, state in states.items()}

    def turned(self, target: str, *, opened: bool) -> None:
        """The circuit of a target has opened or closed here: it is told, and nobody waits for that."""
        self._note(target, opened=opened)
        telling = asyncio.create_task(self._tell(CircuitTurned(target, opened)))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def hear(self, turned: CircuitTurned) -> None:
        """It has, elsewhere."""
        known = self.standings.of(turned.target) if turned.opened else self.standings.find(turned.target)
        if known is None:
            return
        if known.circuit.open(self.world.clock()) if turned.opened else known.circuit.close():
            self._note(turned.target, opened=turned.opened)

    def reset(self, target: str | None) -> list[str]:
        """Close the circuit of a target, or all that are open; those that were."""
        closed = []
        for name, state in self.states().items():
            if target in {None, name} and state != "closed":
                self.standings.of(name).circuit.close()
                self.turned(name, opened=False)
                closed.append(name)
        return closed

    def _note(self, target: str, *, opened: bool) -> None:
        if opened:
            failures = float(self.standings.of(target).circuit.failures)
            self.world.events.note("circuit_opened", target=target, failures=failures, reason="failed again and again")
        else:
            self.world.events.note("circuit_closed", target=target)

    async def _tell(self, notice: CircuitTurned) -> None:
        with suppress(StoreDown):  # then they find out by themselves
            await self._bulletin.publish(notice)

    async def close(self) -> None:
        """What is being told is told."""
        await asyncio.gather(*self._telling)

"""Answers that are read to their end after all who waited have left, where the route says so: then they are stored.

Reading on costs what the provider goes on to say, so it is bounded: by the deadlines of the call, and in how many are read.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

from sentinel_gateway.errors import RequestError
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.ports import World


class Drained(Protocol):
    """A call that others may wait for as well."""

    @property
    def journey(self) -> Journey: ...

    def board(self) -> None: ...

    async def leave(self) -> None: ...

    async def read_to_the_end(self) -> None: ...


class Drains:
    """Those under way, `most` at once. To be closed."""

    def __init__(self, world: World) -> None:
        self.most = 0
        self._world = world
        self._reading: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Drains {len(self._reading)} of {self.most}>"

    def take(self, call: Drained) -> bool:
        """Wait for it in place of who has left; False if there are as many already as there may be."""
        if len(self._reading) >= self.most:
            return False
        call.board()
        reading = asyncio.create_task(self._read(call))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return True

    async def _read(self, call: Drained) -> None:
        started = self._world.clock()
        try:
            with suppress(RequestError):  # it is told by its attempt, and nobody is there to answer
                await call.read_to_the_end()
        finally:
            await call.leave()
            own = call.journey
            seconds = round(self._world.clock() - started, 6)
            self._world.events.note(
                "answer_drained",
                sentinel_id=own.sentinel_id,
                target=own.target,
                seconds=seconds,
                completion_tokens=own.completion_tokens,
            )

    async def close(self) -> None:
        """Let go of all of them."""
        self.most = 0
        await asyncio.sleep(0)  # one that has not begun, cancelled, would never leave its call
        reading = list(self._reading)
        for one in reading:
            one.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

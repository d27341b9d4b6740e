"""One flight for all nodes: while one of them asks a provider, the others wait for what it brings.

Passengers of a node share a flight (`flight.py`); this is what that flight asks before it calls a provider. Whoever holds the
claim of the exact key makes the call and hands over what it brought, whether or not it may be stored. Where nobody says
whose turn it is, each node makes its own call (docs/decisions/021).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final

import msgspec

from sentinel_gateway.core.caching import NotStorable
from sentinel_gateway.core.chat import Answer, read_answer
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.relay import Relay
from sentinel_gateway.ports import CLAIM_SECONDS, Completion, Handover, Landed

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.1
"""Seconds between two looks at what another node has brought: a tenth is what waiting may cost."""
GROWTH: Final = 1.5

_numbers: Final = count(1)
"""Of the flights of this process, whatever Fleet they belong to."""


class Brought(msgspec.Struct, frozen=True):
    """A whole answer, and the target that gave it."""

    completion: Completion
    target: str


class Fleet:
    """The other nodes. `patience` is how many seconds of another's call are waited for; longer answers than `max_bytes` stay.

    Who waits and hears of nobody for more than `silence` seconds asks by itself.
    """

    def __init__(self, handover: Handover, *, patience: float, max_bytes: int, silence: float = CLAIM_SECONDS) -> None:
        self._handover = handover
        self._patience = patience
        self._max_bytes = max_bytes
        self._silence = silence

    def __repr__(self) -> str:
        return f"<Fleet {self._handover!r}>"

    async def bring(
        self,
        key: str,
        journey: Journey,
        ask: Callable[[], Awaitable[Completion | Relay]],
        *,
        stale: Callable[[Journey], bool],
        total: float | None = None,
    ) -> Brought | Completion | Relay:
        """What another node brings; else what a provider says, which is handed over once it is whole.

        What fails, or is `stale` by then, is nobody else's. Who is `stale` itself gets nothing that others may have begun before.
        Of the `total` seconds that the request may take, half are left for a call of its own.
        """
        flight, opened = next(_numbers), None
        clock = asyncio.get_running_loop().time
        begun, patience = clock(), self._patience if total is None else min(self._patience, total / 2)
        try:
            brought = await self._await_others(key, flight, partial(stale, journey), patience)
            journey.waited = clock() - begun
            if brought is not None:
                return brought
            opened = await ask()
        finally:
            if opened is None:
                self._handover.release(key, flight)
        if isinstance(opened, Relay):
            opened.when_settled(partial(self._landed, key, flight, journey, stale))
        elif stale(journey):
            self._handover.release(key, flight)
        else:
            self._land(key, flight, opened.raw, journey)
        return opened

    async def _await_others(self, key: str, flight: int, stale: Callable[[], bool], patience: float) -> Brought | None:
        """None if this flight is to ask: it is its turn, or nobody says so in time."""
        clock = asyncio.get_running_loop().time
        begun, pause = clock(), FIRST_PAUSE
        heard: float | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    try:
                        turn = await self._handover.claim(key, flight, waited=0.0 if stale() else clock() - begun)
                    except StoreDown:
                        if heard is None or clock() - heard > self._silence:
                            break
                    else:
                        if turn is not False:
                            return _read(turn) if isinstance(turn, Landed) else None
                        heard = clock()
                    await asyncio.sleep(pause)
                    pause = min(pause * GROWTH, LONGEST_PAUSE)
        return None

    def _landed(self, key: str, flight: int, journey: Journey, stale: Callable[[Journey], bool], relay: Relay) -> None:
        answer: Answer | NotStorable = relay.proven()
        if isinstance(answer, NotStorable) or stale(journey):
            self._handover.release(key, flight)
        else:
            self._land(key, flight, msgspec.json.encode(answer.fields), journey)

    def _land(self, key: str, flight: int, body: bytes, journey: Journey) -> None:
        if len(body) > self._max_bytes:
            self._handover.release(key, flight)
        else:
            self._handover.land(key, flight, Landed(body, journey.target))


def _read(landed: Landed) -> Brought | None:
    try:
        answer = read_answer(msgspec.json.decode(landed.body))
    except msgspec.DecodeError:
        return None
    return None if answer is None else Brought(Completion(landed.body, answer), landed.target)

"""Which node asks a provider for an exact key, and what it has brought, in Redis: the port `Handover`.

A claim is one flight's, and lapses within seconds unless its node renews it, so a node that dies keeps nobody waiting. All is one
script a step (`lua/flights.lua`), on two keys of one hash slot.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import CLAIM_SECONDS, Landed
from sentinel_gateway.stores._redis import RedisLink, end
from sentinel_gateway.stores._redis_script import Script
from sentinel_gateway.stores._redis_values import Values

PREFIX: Final = "sentinel:flight:1"
"""With the version of what lies below it."""
RENEWALS: Final = 3
"""In the life of a claim."""
KEPT_SECONDS: Final = 10.0
FRESH_SECONDS: Final = 0.5
"""For so long what was brought answers whoever comes; later it answers those who have waited for it."""
AT_ONCE: Final = 256
"""Writes under way; more than that and claims are left to lapse."""

WHAT: Final = "flight"
"""What is proven to have been brought is nothing else that was ever sealed."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, Landed]).decode


class RedisFlights:
    """A `Handover` by way of `link`, which stays its owner's. `node` is a name that no other node has.

    Nodes that don't share the `secret` know nothing of each other, and believe nothing that the others say.
    """

    def __init__(self, link: RedisLink, *, secret: bytes, node: str, claim_seconds: float = CLAIM_SECONDS) -> None:
        self._link = link
        self._values = Values(secret)
        self._node = node
        self._milliseconds = int(claim_seconds * 1000)
        self._script = Script("flights")
        self._held: set[tuple[str, int]] = set()
        """Claims of which Redis may know."""
        self._beside: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RedisFlights of {self._node}, {len(self._held)} claims>"

    async def claim(self, key: str, flight: int, *, waited: float) -> Landed | bool:
        claiming = asyncio.create_task(self._claim(key, flight, waited))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:  # whether Redis has heard of it can't be known before it answers
            self._do_beside(self._undo(claiming, key, flight))
            raise

    def land(self, key: str, flight: int, landed: Landed) -> None:
        self._give_up(key, flight, "land", self._values.seal(_encode((WHAT, key, landed))), int(KEPT_SECONDS * 1000))

    def release(self, key: str, flight: int) -> None:
        self._give_up(key, flight, "release")

    async def close(self) -> None:
        if self._renewing is not None:
            await end(self._renewing)
        while self._held or self._beside:
            for key, flight in list(self._held):
                self.release(key, flight)
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def _claim(self, key: str, flight: int, waited: float) -> Landed | bool:
        answers = min(max(waited, FRESH_SECONDS), KEPT_SECONDS)
        may_know = self._link.works
        try:
            found = await self._run(key, flight, "claim", self._milliseconds, int(KEPT_SECONDS * 1000), int(answers * 1000))
        except StoreDown:
            if may_know:
                self._hold(key, flight)
            raise
        if found == 1:
            self._hold(key, flight)
            return True
        self._held.discard((key, flight))
        return self._read(found, key) if isinstance(found, bytes) else False

    async def _undo(self, claiming: "asyncio.Task[Landed | bool]", key: str, flight: int) -> None:
        with suppress(StoreDown):
            await claiming
        self.release(key, flight)

    def _hold(self, key: str, flight: int) -> None:
        self._held.add((key, flight))
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    def _read(self, value: bytes, key: str) -> Landed:
        payload = self._values.unseal(value)
        if payload is not None:
            what, whose, landed = _decode(payload)
            if (what, whose) == (WHAT, key):
                return landed
        raise StoreDown("what another node has brought can't be believed")

    def _give_up(self, key: str, flight: int, what: str, *arguments: bytes | int) -> None:
        if (key, flight) not in self._held:
            return
        self._held.discard((key, flight))
        if len(self._beside) < AT_ONCE:
            self._do_beside(self._tell(key, flight, what, *arguments))

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _tell(self, key: str, flight: int, what: str, *arguments: bytes | int) -> None:
        with suppress(StoreDown):  # the claim lapses by itself
            await self._run(key, flight, what, *arguments)

    async def _renew(self) -> None:
        """One after the other; a claim that could not be renewed is lost, and costs a second call at worst."""
        while True:
            await asyncio.sleep(self._milliseconds / 1000 / RENEWALS)
            for key, flight in list(self._held):
                with suppress(StoreDown):
                    if (key, flight) in self._held and not await self._run(key, flight, "renew", self._milliseconds):
                        self._held.discard((key, flight))

    async def _run(self, key: str, flight: int, what: str, *arguments: bytes | int) -> bytes | int:
        owner = self._values.owner
        names = f"{PREFIX}:{owner}:{{{key}}}", f"{PREFIX}-landed:{owner}:{{{key}}}"
        return await self._script.run(self._link, names, [what, self._node, flight, *arguments], _read_answer)


def _read_answer(answer: Any) -> bytes | int:
    """Raises ValueError if it is none of the script's."""
    if isinstance(answer, bytes) or (isinstance(answer, int) and answer in {0, 1}):
        return answer
    raise ValueError("neither yes nor no, nor what was brought")

"""The index in Redis where its server has vector sets, else one in this process: only the server can tell, once it answers."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Events, ScopeView, VectorIndex
from sentinel_gateway.vectors.memory import MemoryIndex
from sentinel_gateway.vectors.redis_sets import RedisIndex

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

PAUSE_SECONDS: Final = 1.0


class SharedIndex:
    """A `VectorIndex`: `local` until Redis has said that it has vector sets, `shared` from then on.

    Until it has said anything both take what is added, so nothing is lost on the way. Told once: vectors_local (reason), if it
    says no, and vectors_shared, if it says yes after that.
    """

    def __init__(self, shared: RedisIndex, local: MemoryIndex, *, events: Events, pause: float = PAUSE_SECONDS) -> None:
        self._shared = shared
        self._local: MemoryIndex | None = local
        self._refused = self._closed = False
        self._events = events
        self._pause = pause

    def __repr__(self) -> str:
        return f"<SharedIndex, now {self._index!r}>"

    @property
    def shared(self) -> bool:
        return self._index.shared

    async def prepare(self) -> None:
        """Ask Redis until it can. It may be another, newer one some day."""
        while (fault := await self._fault()) is not None:
            if self._closed:
                return
            if fault and not self._refused:
                self._refused = True
                self._events.note(
                    "vectors_local",
                    reason=f"sharing vectors takes Redis 8.2 or newer, with the right to write; this one says: {fault}",
                )
            await asyncio.sleep(self._pause)
        local, self._local = self._local, None
        if local is not None:
            await local.close()
        if self._refused:
            self._events.note("vectors_shared")

    async def _fault(self) -> str | None:
        """As `RedisIndex.fault`; empty while Redis does not answer, of which its link tells."""
        try:
            return await self._shared.fault()
        except StoreDown:
            return ""

    def add(self, head: Head) -> None:
        for index in self._concerned:
            index.add(head)

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        return await self._index.view(scope, waiting=waiting)

    async def attach(self, vectors: "Sequence[tuple[Head, Vector]]") -> None:
        await self._index.attach(vectors)

    async def nearest(self, scope: str, vector: "Vector", *, limit: int) -> list[Neighbour]:
        return await self._index.nearest(scope, vector, limit=limit)

    def drop(self, heads: Iterable[Head]) -> None:
        dropped = list(heads)
        for index in self._concerned:
            index.drop(dropped)

    async def clear(self, selector: Selector, now: float) -> int:
        return max([await index.clear(selector, now) for index in self._concerned])

    def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, "Vector | None"]]]:
        return self._index.questions(selector, now)

    async def status(self) -> Mapping[str, str]:
        if self._local is not None:
            return {"vectors": "local"}
        return {"vectors": "up" if await self._fault() is None else "down"}  # another server may have taken its place

    async def close(self) -> None:
        self._closed = True
        if self._local is not None:
            await self._local.close()
        await self._shared.close()

    @property
    def _index(self) -> VectorIndex:
        """The one that is searched."""
        return self._shared if self._local is None else self._local

    @property
    def _concerned(self) -> "list[VectorIndex]":
        """Those that must know of a change."""
        if self._local is None:
            return [self._shared]
        return [self._local] if self._refused else [self._local, self._shared]

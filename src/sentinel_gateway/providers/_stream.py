"""What every stream of a provider does alike: read bytes, hand out the chunks that they make, and let go of the connection."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self

from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.errors import UpstreamBroken, UpstreamError
from sentinel_gateway.providers._errors import Source
from sentinel_gateway.providers._http import ByteStream

AT_ONCE: Final = 16 * 1024
"""Bytes that are read in a turn of the loop: of tiny events these take some milliseconds, and others wait for it."""


class EventStream(ABC):
    """A `ports.ChunkStream` over bytes. One reader at a time.

    `_over` is why nothing more is to be read: raised once the chunks that came with it have been handed out, however often it is
    asked. What it is holds: no bytes that come later make good what was wrong.
    """

    __slots__ = ("_heard", "_later", "_over", "_source", "_stream")

    def __init__(self, stream: ByteStream, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._heard = False
        self._later = b""
        """What has come beyond that, for the turns to come."""
        self._over: UpstreamError | type[StopAsyncIteration] | None = None

    def __repr__(self) -> str:
        state = "finished" if self.finished else "open" if self._over is None else "ended"
        return f"<{type(self).__name__} {self._source.name} {state}>"

    @property
    @abstractmethod
    def finished(self) -> bool:
        """The provider said that it was done."""

    @abstractmethod
    def _chunks(self, data: bytes) -> list[Chunk]:
        """The chunks that end in these bytes; sets what it is `_over` by, if it is."""

    @abstractmethod
    def _last_chunks(self) -> list[Chunk]:
        """The same once no more bytes come: the chunks that only now are certain."""

    def _unbegun(self) -> UpstreamBroken:
        return UpstreamBroken(f"{self._source.name} ended its stream before it began.", failure="io_error")

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        while self._over is None:
            if self._later:
                await asyncio.sleep(0)
            data = self._portion(self._later or await self._stream.read())
            if chunks := self._chunks(data) if data else self._last_chunks():
                return chunks
        raise self._over

    def _portion(self, data: bytes) -> bytes:
        """As much of it as this turn reads."""
        self._later = data[AT_ONCE:]
        return data[:AT_ONCE]

    async def pipe(self, into: Callable[[list[Chunk]], bool]) -> None:
        more = True

        def hear(data: bytes) -> bool:
            nonlocal more
            if chunks := self._chunks(data if len(data) <= AT_ONCE else self._portion(data)):
                more = into(chunks)
            return more and self._over is None and not self._later

        while more and into(await self.__anext__()):
            if self._over is None and not self._later:
                await self._stream.pipe(hear)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self.finished and kind is None:
                await self._stream.drain()
        finally:
            self._stream.close()

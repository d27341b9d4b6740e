"""What every stream of a provider does alike: read bytes, hand out the chunks that they make, and let go of the connection."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.providers._errors import Source
from sentinel_gateway.providers._http import ByteStream

if TYPE_CHECKING:
    from sentinel_gateway.errors import UpstreamError


class EventStream(ABC):
    """A `ports.ChunkStream` over bytes. One reader at a time.

    `_failure` is raised when the chunks that came with it have been handed out; `_ended` once nothing more is to be read.
    """

    __slots__ = ("_ended", "_failure", "_heard", "_source", "_stream")

    def __init__(self, stream: ByteStream, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._heard = False
        self._ended = False
        self._failure: UpstreamError | None = None

    def __repr__(self) -> str:
        state = "finished" if self.finished else "ended" if self._ended else "open"
        return f"<{type(self).__name__} {self._source.name} {state}>"

    @property
    @abstractmethod
    def finished(self) -> bool:
        """The provider said that it was done."""

    @abstractmethod
    def _chunks(self, data: bytes) -> list[Chunk]:
        """The chunks that end in these bytes."""

    @abstractmethod
    def _last_chunks(self) -> list[Chunk]:
        """No more bytes come: the chunks that only now are certain. Raises `UpstreamBroken`."""

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        while not self._ended:
            if self._failure is not None:
                raise self._failure
            data = await self._stream.read()
            if chunks := self._chunks(data) if data else self._last_chunks():
                return chunks
        raise StopAsyncIteration

    async def pipe(self, into: Callable[[list[Chunk]], bool]) -> None:
        more = True

        def hear(data: bytes) -> bool:
            nonlocal more
            if chunks := self._chunks(data):
                more = into(chunks)
            return more and self._failure is None and not self._ended

        while more and into(await self.__anext__()):
            if self._failure is None and not self._ended:  # nothing that comes later makes good what was wrong
                await self._stream.pipe(hear)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self.finished and kind is None:
                await self._stream.drain()
        finally:
            self._stream.close()

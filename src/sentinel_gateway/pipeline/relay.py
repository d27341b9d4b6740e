"""A live stream on its way to the caller: passed on as it comes, folded into an answer beside it.

A stream owns its release: however it ends - done, cut, the caller gone - `close` runs once and lets go of the upstream.
"""

from collections.abc import AsyncGenerator

from sentinel_gateway.core.caching import NotStorable
from sentinel_gateway.core.chat import Answer, ChatRequest, Chunk
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.dispatch import OpenStream


class Relay:
    """One stream being relayed. `max_bytes` bounds what is remembered of it, not what is passed on."""

    def __init__(self, opened: OpenStream, request: ChatRequest, *, max_bytes: int) -> None:
        self._opened = opened
        self._request = request
        self.fold = Fold(expected=request.choices, max_bytes=max_bytes)

    async def payloads(self) -> AsyncGenerator[list[bytes]]:
        """The chunks to send, as JSON, in the batches in which they came; raises `UpstreamBroken` where the stream was cut."""
        async for batch in self._opened.batches():
            payloads = []
            for chunk in batch:
                self.fold.add(chunk.fields, len(chunk.raw))
                if self._request.include_usage or not _only_usage(chunk):
                    payloads.append(chunk.raw)
            if payloads:
                yield payloads
        if not self._opened.finished and not self.fold.finished:
            raise UpstreamBroken("The provider's stream was cut before its end: what came is incomplete.", failure="io_error")

    def proven(self) -> Answer | NotStorable:
        """The whole answer, if the provider said it was done, every choice has ended, and it was small enough to remember."""
        if not (self._opened.finished and self.fold.finished):
            return NotStorable("unproven-end")
        return NotStorable("too-large") if self.fold.overflown else self.fold.answer()

    async def close(self) -> None:
        """Let go of the upstream connection."""
        await self._opened.close()


def _only_usage(chunk: Chunk) -> bool:
    """The extra chunk that `include_usage` adds, which we ask for always and the caller perhaps did not."""
    return chunk.fields.get("choices") == [] and chunk.fields.get("usage") is not None

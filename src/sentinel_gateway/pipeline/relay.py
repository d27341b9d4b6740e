"""A live stream on its way to the caller: passed on as it comes, folded into an answer beside it.

A stream owns its release: however it ends - done, cut, the caller gone - `close` runs once and lets go of the upstream.
"""

from collections.abc import Callable

import msgspec

from sentinel_gateway.core.caching import NotStorable
from sentinel_gateway.core.chat import Answer, ChatRequest, Chunk
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.dispatch import OpenStream


class Batch(msgspec.Struct, frozen=True):
    """Chunks that came together, as JSON; `size` in bytes."""

    all: list[bytes]
    without_usage: list[bytes]
    """Without the extra chunk that asking for usage adds."""
    size: int


class Relay:
    """One stream being relayed. `max_bytes` bounds what is remembered of it, not what is passed on.

    `settle` is called once, when the stream has come as far as it will: before its end is told, so that the next to ask finds it.
    """

    def __init__(self, opened: OpenStream, request: ChatRequest, *, max_bytes: int, settle: Callable[["Relay"], None]) -> None:
        self._opened = opened
        self._settled = False
        self._on_settle = settle
        self.heard = 0
        """Chunks that came: about as many tokens, where the provider tells no usage."""
        self.fold = Fold(expected=request.choices, max_bytes=max_bytes)

    async def next(self) -> Batch | None:
        """What came since, None at the end; raises `UpstreamBroken` where the stream was cut. Cancelled, it loses nothing."""
        try:
            chunks = await self._opened.next()
        except StopAsyncIteration:
            if not self._opened.finished and not self.fold.finished:
                raise UpstreamBroken(
                    "The provider's stream was cut before its end: what came is incomplete.", failure="io_error"
                ) from None
            self._settle()
            return None
        self.heard += len(chunks)
        everything, without_usage, size = [], [], 0
        for chunk in chunks:
            raw, more = chunk.raw, chunk.more
            size += len(raw)
            everything.append(raw)
            if more is not None:
                self.fold.add_text(more, len(raw))
            else:
                self.fold.add(chunk.fields, len(raw))
                if _only_usage(chunk):
                    continue
            without_usage.append(raw)
        return Batch(everything, without_usage, size)

    def proven(self) -> Answer | NotStorable:
        """The whole answer, if the provider said it was done, every choice has ended, and it was small enough to remember."""
        if not (self._opened.finished and self.fold.finished):
            return NotStorable("unproven-end")
        return NotStorable("too-large") if self.fold.overflown else self.fold.answer()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._on_settle(self)

    async def close(self) -> None:
        """Let go of the upstream connection."""
        self._settle()
        await self._opened.close()


def _only_usage(chunk: Chunk) -> bool:
    """The extra chunk that `include_usage` adds, which we ask for always and the caller perhaps did not."""
    return chunk.fields.get("choices") == [] and chunk.fields.get("usage") is not None

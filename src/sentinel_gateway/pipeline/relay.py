"""A live stream on its way to the caller: passed on as it comes, folded into an answer beside it.

A stream owns its release: however it ends - done, cut, the caller gone - `close` runs once and lets go of the upstream.
"""

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.caching import NotStorable
from sentinel_gateway.core.chat import Answer, ChatRequest, Chunk, Usage, tier_of
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.core.tokens import usage_about, within
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.dispatch import OpenStream


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Chunks that came together, as JSON; `size` in bytes."""

    all: list[bytes]
    without_usage: list[bytes]
    """Without the extra chunk that asking for usage adds."""
    size: int


class Relay:
    """One stream being relayed. `max_bytes` bounds what is remembered of it, not what is passed on.

    `asked` are the tokens of its input as they were estimated, 0 if nobody did.

    `settle` is called once, when the stream has come as far as it will: before its end is told, so that the next to ask finds it.
    """

    def __init__(
        self, opened: OpenStream, request: ChatRequest, *, max_bytes: int, settle: Callable[["Relay"], None], asked: int = 0
    ) -> None:
        self._opened = opened
        self._settled = False
        self._request = request
        self._asked = asked
        self._on_settle = [settle]
        self.heard = 0
        """Chunks that came: about as many tokens, where the provider tells no usage."""
        self.withheld: list[Batch] = []
        """What came before its first passenger was told of it."""
        self.error: Exception | None = None
        """What the stream ended in."""
        self.fold = Fold(expected=request.choices, max_bytes=max_bytes)

    def when_settled(self, tell: Callable[["Relay"], None]) -> None:
        """Tell this one as well, after those before it."""
        self._on_settle.append(tell)

    async def pipe(self, into: Callable[[Batch], bool]) -> None:
        """As of any stream, folded beside. What is wrong with it is raised once all was given that came before that."""
        if self.error is None:
            await self._opened.pipe(partial(self._take, into))
        if self.error is not None:
            raise self.error

    async def withhold(self, most: int) -> None:
        """Keep what comes to the stream's end, or until it is more than so many bytes; raises what it breaks off with.

        The end is where every choice has said why it ended. A `[DONE]` is not enough: servers send one after a failure as well.
        What is withheld is dropped then, and the upstream connection let go.
        """
        size = 0

        def keep(batch: Batch) -> bool:
            nonlocal size
            self.withheld.append(batch)
            size += batch.size
            return size <= most

        try:
            await self.pipe(keep)
        except StopAsyncIteration:
            if not self.fold.finished:
                raise _cut() from None

    def end(self, error: Exception | None = None) -> None:
        """That was all; raises the `error` that it ended in, or `UpstreamBroken` where the stream was cut."""
        if error is None and not self._opened.finished and not self.fold.finished:
            error = _cut()
        self.error = error
        self._settle()
        if error is not None:
            raise error

    def _take(self, into: Callable[[Batch], bool], chunks: list[Chunk]) -> bool:
        """Fold the chunks that came, and pass them on, up to one that can't be folded."""
        fold, everything, size = self.fold, [], 0
        of_usage: tuple[bytes, ...] = ()
        for chunk in chunks:
            raw, more = chunk.raw, chunk.more
            length = len(raw)
            if more is not None:
                fold.add_text(more, length)
            else:
                try:
                    fold.add(chunk.fields, length)
                except UpstreamBroken as exc:
                    self.error = exc
                    break
                if _only_usage(chunk):
                    of_usage = (*of_usage, raw)
            size += length
            everything.append(raw)
        self.heard += len(everything)
        without_usage = [raw for raw in everything if raw not in of_usage] if of_usage else everything
        return into(Batch(everything, without_usage, size)) and self.error is None

    @property
    def usage(self) -> Usage:
        """What it has cost so far, as the provider told it; else about what was asked and heard: it is billed."""
        told = self.fold.usage
        if told is not None:
            return told
        heard = within(self._request, self.heard)
        usage = replace(usage_about(self._request.fields, completion=heard), service_tier=tier_of(self.fold.service_tier))
        return replace(usage, prompt_tokens=self._asked, total_tokens=self._asked + heard) if self._asked else usage

    @property
    def _whole(self) -> bool:
        return self.error is None and (self._opened.finished or self.fold.finished)

    def proven(self) -> Answer | NotStorable:
        """The whole answer, if the provider said it was done, every choice has ended, and it was small enough to remember."""
        if self.error is not None or not (self._opened.finished and self.fold.finished):
            return NotStorable("unproven-end")
        return NotStorable("too-large") if self.fold.overflown else self.fold.answer()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            # Who left before the first word pays for what had come: it may be all of it.
            self._take(bool, self._opened.unread())
            self._opened.ended(self.error, self.usage, whole=self._whole)
            for tell in self._on_settle:
                tell(self)

    async def close(self) -> None:
        """Let go of the upstream connection."""
        try:
            self._settle()
        finally:
            await self._opened.close()


def _cut() -> UpstreamBroken:
    return UpstreamBroken("The provider's stream was cut before its end: what came is incomplete.", failure="io_error")


def _only_usage(chunk: Chunk) -> bool:
    """The extra chunk that `include_usage` adds, which we ask for always and the caller perhaps did not."""
    return chunk.fields.get("choices") == [] and chunk.fields.get("usage") is not None

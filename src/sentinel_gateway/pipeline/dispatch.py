"""Ask the providers: the targets in their order, the next one when a target fails in a way another may not.

Nothing is asked twice of the same target here, and nothing goes on to another once a stream has said its first word.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar

from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.core.routing import Target
from sentinel_gateway.errors import UpstreamBroken, UpstreamError
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import ChunkStream, Clock, Completion, Events, Provider, UpstreamCall

Answered = TypeVar("Answered")
Attempt = Callable[[Target, UpstreamCall], Awaitable[Answered]]


class OpenStream:
    """A stream that has begun: its first chunks are here. Closing it closes the upstream connection."""

    def __init__(
        self, stream: ChunkStream, first: list[Chunk], rest: AsyncIterator[list[Chunk]], closing: AsyncExitStack
    ) -> None:
        self._stream = stream
        self._first: list[Chunk] | None = first
        self._rest = rest
        self._closing = closing

    @property
    def finished(self) -> bool:
        """The provider said that the stream is complete."""
        return self._stream.finished

    def next(self) -> Awaitable[list[Chunk]]:
        """The chunks that came since, the first ones first; `StopAsyncIteration` at the end."""
        if self._first is None:
            return anext(self._rest)
        first, self._first = self._first, None
        return _ready(first)

    async def close(self) -> None:
        """Let go of the upstream connection; may be called twice."""
        await self._closing.aclose()


async def _ready(chunks: list[Chunk]) -> list[Chunk]:
    return chunks


class Dispatch:
    """Sends plans to providers. `providers` are by name."""

    def __init__(self, providers: Mapping[str, Provider], clock: Clock, events: Events) -> None:
        self._providers = providers
        self._clock = clock
        self._events = events

    async def complete(self, plan: Plan, journey: Journey) -> Completion:
        """A whole answer; raises the last target's `UpstreamError` when all fail."""
        return await self._ask(self._complete, plan, journey)

    async def open_stream(self, plan: Plan, journey: Journey) -> OpenStream:
        """A stream with its first chunks; raises the last target's `UpstreamError` when none begins."""
        return await self._ask(self._open, plan, journey)

    async def _ask(self, attempt: Attempt[Answered], plan: Plan, journey: Journey) -> Answered:
        journey.upstream_started = self._clock()
        *others, last = plan.route.targets
        try:
            for target in others:
                try:
                    return await self._attempt(attempt, target, plan, journey)
                except UpstreamError as error:
                    if not error.next_target:
                        raise
                    self._events.note("target_failed", target=str(target), error=error.kind)
            return await self._attempt(attempt, last, plan, journey)
        finally:
            journey.upstream_ended = self._clock()

    async def _attempt(self, attempt: Attempt[Answered], target: Target, plan: Plan, journey: Journey) -> Answered:
        journey.target = str(target)
        return await attempt(target, UpstreamCall(plan.request.fields, target.model, journey.sentinel_id))

    async def _complete(self, target: Target, call: UpstreamCall) -> Completion:
        return await self._providers[target.provider].complete(call)

    async def _open(self, target: Target, call: UpstreamCall) -> OpenStream:
        async with AsyncExitStack() as closing:
            stream = await closing.enter_async_context(await self._providers[target.provider].open_stream(call))
            batches = aiter(stream)
            try:
                first = await anext(batches)
            except StopAsyncIteration:
                raise UpstreamBroken(f"{target.provider} closed the stream before its first word.", failure="io_error") from None
            return OpenStream(stream, first, batches, closing.pop_all())

"""Who answers when the cache doesn't: the providers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import msgspec

from sentinel_gateway.core.chat import Answer, Batches, Chunk, Dialect, Fields, Native
from sentinel_gateway.core.routing import Deadlines
from sentinel_gateway.errors import UpstreamRefused


class UpstreamCall(msgspec.Struct, frozen=True):
    """One attempt: the caller's fields, to be sent to `model` of the provider it is given to.

    `fields` is never changed: an adapter builds its own body from it. `dialect` is the one that they came in, and `native` what
    they were made of (`ChatRequest`): who speaks otherwise than that calls `refuse_unsaid`.
    `deadlines`: where they are shorter than the provider's own. `once`: it must not go out a second time, whatever happens.
    `through`: the gateways that the request has come through, for `Via`. `version`: of its dialect, where that is
    not the usual one. `traceparent`: the trace to go on with.
    """

    fields: Fields
    model: str
    sentinel_id: str
    dialect: Dialect = "openai"
    native: Native | None = None
    deadlines: Deadlines | None = None
    once: bool = False
    through: str = ""
    version: str = ""
    traceparent: str = ""


class Completion(msgspec.Struct, frozen=True):
    """A whole answer: the provider's bytes, and the same parsed."""

    raw: bytes
    answer: Answer


class ChunkStream(Batches[Chunk], Protocol):
    """An open stream. Iterating yields the chunks in the batches in which they arrive, and ends at the stream's end.

    Errors are `UpstreamError`s. `finished` is True once the provider said that it was done (`[DONE]`), not merely closed.
    Cancelling the wait for a batch loses nothing: whoever asks next gets it.
    Leaving the context closes the connection, within a second and even under cancellation.
    """

    @property
    def finished(self) -> bool: ...

    def __aiter__(self) -> AsyncIterator[list[Chunk]]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NotCarried(UpstreamRefused):
    """The request asks what this provider has no word for: it is not asked. Another target may have one."""

    next_target = True

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, upstream_status=400, upstream_code="unsupported_value", param=param)


def refuse_unsaid(call: UpstreamCall, provider: str) -> None:
    """For a provider that doesn't speak as the caller does: raises `NotCarried` for what it would have to be told, and can't."""
    if call.native is not None and (place := call.native.needs):
        raise NotCarried(
            f"{provider} can't be given '{place}': leave it out, or ask a provider of Anthropic's dialect.", param=place
        )


class Unsent(asyncio.CancelledError):
    """A call was cancelled before anything of it was sent: nobody has to pay for it."""


class Provider(Protocol):
    """An upstream that answers chat requests. Raises `UpstreamError`s only, and `Unsent` if it is cancelled that early.

    One that can't put a request into its words raises `NotCarried` when it is called, before there is anything to await.
    """

    @property
    def name(self) -> str: ...

    def complete(self, call: UpstreamCall) -> Awaitable[Completion]:
        """Ask for a whole answer."""
        ...

    def open_stream(self, call: UpstreamCall) -> Awaitable[ChunkStream]:
        """Ask for a stream; returns when the provider has accepted it, before the first chunk. Usage is always asked for."""
        ...

    async def list_models(self) -> frozenset[str]:
        """The model names that the provider says it serves; costs nothing there."""
        ...


class Embedded(msgspec.Struct, frozen=True):
    """A vector for each item of a request's `input`, in its order, each as it is written in JSON: numbers or base64, as asked.

    `tokens` of all items together; None if the provider doesn't tell.
    """

    vectors: tuple[bytes, ...]
    tokens: int | None


@runtime_checkable
class EmbeddingProvider(Protocol):
    """A provider that makes vectors as well; not all do. Raises `UpstreamError`s only."""

    async def embed(self, call: UpstreamCall) -> Embedded:
        """Ask for the vectors of `input`, at least one."""
        ...

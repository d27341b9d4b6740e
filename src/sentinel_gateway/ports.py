"""What the path needs from the world, written for the caller; `tests/contract` holds the adapters to it."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

import msgspec

from sentinel_gateway.core.caching import Entry, Selector, Tier
from sentinel_gateway.core.chat import Answer, Chunk, Fields
from sentinel_gateway.core.record import Record


class Clock(Protocol):
    """Unix seconds that never jump while the process runs (the wall clock at start, carried on by the monotonic one)."""

    def __call__(self) -> float: ...


class UpstreamCall(msgspec.Struct, frozen=True):
    """One attempt: the caller's fields, to be sent to `model` of the provider it is given to.

    `fields` is never changed: an adapter builds its own body from it.
    """

    fields: Fields
    model: str
    sentinel_id: str


class Completion(msgspec.Struct, frozen=True):
    """A whole answer: the provider's bytes, and the same parsed."""

    raw: bytes
    answer: Answer


class ChunkStream(Protocol):
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


class Provider(Protocol):
    """An upstream that answers chat requests. Raises `UpstreamError`s only."""

    @property
    def name(self) -> str: ...

    async def complete(self, call: UpstreamCall) -> Completion:
        """Ask for a whole answer."""
        ...

    async def open_stream(self, call: UpstreamCall) -> ChunkStream:
        """Ask for a stream; returns when the provider has accepted it, before the first chunk. Usage is always asked for."""
        ...

    async def list_models(self) -> frozenset[str]:
        """The model names that the provider says it serves; costs nothing there."""
        ...


class NearStore(Protocol):
    """The memory tier: synchronous, bounded by entries and bytes, evicts the least recently used."""

    def get(self, key: str) -> Entry | None:
        """The entry as stored, expired or not: expiry is judged by `core.caching`."""
        ...

    def put(self, entry: Entry) -> bool:
        """Keep the entry, or drop it if it is too large; False if it was dropped."""
        ...

    def clear(self, selector: Selector, now: float) -> int:
        """Remove what the selector matches; how many."""
        ...

    def size(self) -> tuple[int, int]:
        """Entries and bytes held."""
        ...


class ReplyStore(Protocol):
    """A farther tier. `get`, `clear`, `count` and `ping` raise `StoreDown`, within the adapter's own deadline."""

    @property
    def tier(self) -> Tier: ...

    async def get(self, key: str) -> Entry | None: ...

    def put(self, entry: Entry) -> bool:
        """Take the entry for writing soon; never blocks, never raises: under pressure it is dropped and counted.

        False if it was dropped, or may be: the store does not work at present.
        """
        ...

    async def clear(self, selector: Selector, now: float) -> int: ...

    async def count(self) -> int: ...

    async def ping(self) -> None: ...

    async def close(self) -> None:
        """Write what was taken, then release."""
        ...


class Events(Protocol):
    """Where the path tells what happened. Never blocks, never raises."""

    def finished(self, record: Record) -> None: ...

    def note(self, event: str, **fields: str | float | bool | None) -> None:
        """A change of state worth one log line: a store went down, an entry was dropped."""
        ...


class ConnectionWatch(Protocol):
    """Told of every connection, whether or not it ever carries a request, and of the requests that no app ever sees."""

    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def refused(self, record: Record) -> None:
        """`record.at` is still to be set."""
        ...

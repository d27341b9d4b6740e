"""What the path needs from the world, written for the caller; `tests/contract` holds the adapters to it."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from sentinel_gateway.core.access import Key
from sentinel_gateway.core.caching import Entry, Head, Selector, Tier
from sentinel_gateway.core.chat import Answer, Chunk, Fields
from sentinel_gateway.core.idempotency import Claim, Held, Outcome
from sentinel_gateway.core.issuance import Amendment, AuditEntry
from sentinel_gateway.core.limits import Charge, Verdict
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.core.record import Record
from sentinel_gateway.core.tokens import Encoding, TokenCount

if TYPE_CHECKING:  # numpy is loaded only where the semantic tier is on
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
    """The meaning of a text: one dimension, unit length."""


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


class Embedder(Protocol):
    """Texts as vectors. The work is done off the event loop, by at most as many threads as the adapter was given."""

    @property
    def model(self) -> str:
        """What makes the vectors: those of another can't be compared with them."""
        ...

    @property
    def works(self) -> bool:
        """False while it is known not to: the model is absent, or has failed so often that it is left alone."""
        ...

    async def embed(self, texts: Sequence[str]) -> list["Vector | None"]:
        """The vector of each text; None for one that the model can't read whole: too long, or with signs that it doesn't know.

        A text that was embedded lately costs nothing, and one that is being embedded is not embedded again. Raises `EmbedderDown`
        within the adapter's own deadline, and at once when too much is waiting; what comes out is finite and of unit length.
        """
        ...

    async def close(self) -> None: ...


class TokenCounter(Protocol):
    """How many tokens texts are. Never raises; what it can't count, or not in time, it estimates and says so."""

    async def count(self, texts: Sequence[str], *, encoding: Encoding) -> TokenCount:
        """The tokens of the texts of one request together. Long texts are counted off the event loop, with bounded work."""
        ...

    async def close(self) -> None: ...


class ScopeView(msgspec.Struct, frozen=True):
    """One scope: how many questions have a vector, and some of those that still need one, the oldest first."""

    vectors: int
    waiting: tuple[Head, ...]


class VectorIndex(Protocol):
    """Questions that have a stored answer, apart for each scope, and which of them are near to another.

    A question is added without a vector, and found once it has got one. Dead ones (expired, evicted) may be found: whoever meets
    one drops it. The coroutines raise `StoreDown`, within the adapter's own deadline.
    """

    def add(self, head: Head) -> None:
        """Take the question of a stored answer, in place of an older one under the same key. Never blocks, never raises."""
        ...

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        """The state of a scope, with at most `waiting` questions that need a vector."""
        ...

    async def attach(self, vectors: Sequence[tuple[Head, "Vector"]]) -> None:
        """Give questions their vectors. One that is not there any more is left out."""
        ...

    async def nearest(self, scope: str, vector: "Vector", *, limit: int) -> list[Neighbour]:
        """At most `limit` questions of the scope, the most similar first."""
        ...

    def drop(self, heads: Iterable[Head]) -> None:
        """Forget these, unless another answer has taken the place. Never blocks, never raises."""
        ...

    async def clear(self, selector: Selector, now: float) -> int:
        """Forget what the selector matches; how many."""
        ...

    def size(self) -> tuple[int, int]:
        """Questions held, and how many of them have a vector."""
        ...


class VectorArchive(Protocol):
    """Where an index in process survives a restart. Vectors are bytes of its own making, kept as long as their entries."""

    def keep_vectors(self, vectors: Sequence[tuple[str, bytes]], *, model: str) -> None:
        """Take vectors by their entries' keys, made by `model`, for writing soon. Never blocks, never raises."""
        ...

    def heads(self, *, model: str) -> AsyncIterator[list[tuple[Head, bytes | None]]]:
        """All stored questions, page by page, each with the vector that `model` made of it. Ends early if the store fails."""
        ...


class KeyPage(msgspec.Struct, frozen=True):
    """Some keys in the order of their names; `next` is the cursor of those after them, None after the last."""

    keys: tuple[Key, ...]
    next: str | None


Mark = tuple[int, int]
"""A point in the history of a key store; means nothing to any other."""


class KeyChanges(msgspec.Struct, frozen=True):
    """What has become of keys up to `mark`, in that order; ask again from there while there is `more`.

    `whole`: this begins at the beginning, and whatever was known before is to be forgotten.
    """

    keys: tuple[Key, ...]
    mark: Mark
    whole: bool
    more: bool = False


class KeyStore(Protocol):
    """The client keys, kept for good. Raises `StoreDown`, within the adapter's own deadline.

    Each change stands in the audit log by the time it is made: both or neither.
    """

    async def create(self, key: Key, entry: AuditEntry) -> None:
        """Keep a new key."""
        ...

    async def get(self, id: str) -> Key | None:  # noqa: A002 - its name
        ...

    async def find(self, digest: bytes) -> Key | None:
        """The key whose text has this digest."""
        ...

    async def page(self, *, prefix: str, tenant: str | None, limit: int, cursor: str | None) -> KeyPage:
        """Keys whose names begin so, in whatever case; None is all tenants. Raises `InvalidField` for a cursor that is none."""
        ...

    async def update(self, id: str, rule: Callable[[Key], Amendment]) -> Amendment:  # noqa: A002 - its name
        """Have `rule` say what becomes of the key, and keep that; nobody changes it meanwhile.

        Raises `KeyNotFound`, and what the rule raises; then nothing is kept.
        """
        ...

    async def changes(self, since: Mark | None) -> KeyChanges:
        """What has changed since, revoked keys too; everything, if `since` is None or no point of this history."""
        ...


class AuditPage(msgspec.Struct, frozen=True):
    """Some entries, the newest first; `next` is the cursor of those before them, None before the first."""

    entries: tuple[AuditEntry, ...]
    next: int | None


class AuditLog(Protocol):
    """Every administrative change; nothing in it is changed or taken away. Raises `StoreDown`."""

    async def append(self, entry: AuditEntry) -> None: ...

    async def page(self, *, tenant: str | None, limit: int, cursor: int | None) -> AuditPage:
        """Entries before the cursor; a tenant's only, or all."""
        ...


class LimitStore(Protocol):
    """The buckets of all limits.

    Both coroutines answer within the adapter's own deadline and raise nothing: an adapter whose store is away goes on by itself,
    with a share of each limit. One that keeps its buckets in process never suspends.
    """

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        """Take all of it, or nothing; no two charges name the same bucket. Cancelled, it has taken nothing."""
        ...

    async def settle(self, corrections: Sequence[Charge]) -> None:
        """Book what is known afterwards, whatever the limits say: an amount above 0 was spent, one below 0 is given back."""
        ...

    def buckets(self) -> int:
        """Buckets of which something is spent."""
        ...


class IdempotencyStore(Protocol):
    """Which requests with an idempotency key were begun, and what came of them.

    A key is free again once its lifetime is over; what a tenant has beyond its quota goes earlier, the oldest first.
    All raise `StoreDown`, within the adapter's own deadline.
    """

    async def claim(self, wanted: Claim, now: float) -> Held | None:
        """None for exactly one of those who ask: it is to do the work, then to `keep` or to `release`.

        Durable, where the adapter is: after a crash the key is held, without an outcome.
        """
        ...

    async def keep(self, held: Claim, outcome: Outcome) -> None: ...

    async def release(self, held: Claim) -> None:
        """Nothing came of it: whoever asks next is to do the work."""
        ...

    async def close(self) -> None: ...


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

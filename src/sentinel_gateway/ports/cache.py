"""What is kept and found again: the tiers, and what compares questions."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from sentinel_gateway.core.browsing import Order, Page, Place, Selection, View
from sentinel_gateway.core.caching import Entry, Head, Selector, Tier
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.core.tokens import Encoding, TokenCount

if TYPE_CHECKING:  # numpy is loaded only where the semantic tier is on
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
    """The meaning of a text: one dimension, unit length."""


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

    def held(self) -> list[Entry]:
        """All of them, in no order."""
        ...

    def size(self) -> tuple[int, int]:
        """Entries and bytes held."""
        ...


class ReplyStore(Protocol):
    """A farther tier. Its coroutines but `close` raise `StoreDown`, within the adapter's own deadline."""

    @property
    def tier(self) -> Tier: ...

    @property
    def shared(self) -> bool:
        """Is it the same for all nodes? Then one of them clears it for all."""
        ...

    async def get(self, key: str) -> Entry | None: ...

    def put(self, entry: Entry) -> bool:
        """Take the entry for writing soon; never blocks, never raises: under pressure it is dropped and counted.

        False if it was dropped, or may be: the store does not work at present.
        """
        ...

    async def clear(self, selector: Selector, now: float) -> int: ...

    async def count(self) -> int: ...

    @property
    def orders(self) -> frozenset[Order]:
        """In which it can be looked through, a page at a time."""
        ...

    async def page(self, view: View, now: float, *, after: Place | None, most: int) -> Page:
        """At most so many entries of the view behind that place, in one of its orders; no more work than is good for others.

        What was put a moment ago may be missing, and a question may be told without proof.
        """
        ...

    async def select(self, selector: Selector, now: float, *, sample: int) -> Selection:
        """What a clear of this selector would remove now, with at most so many of them."""
        ...

    async def flush(self) -> None:
        """Returns once all that was put is written or lost."""
        ...

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
    """How many tokens texts are. What it can't count, or not in time, it estimates and says so."""

    def count_now(self, texts: Sequence[str], *, encoding: Encoding) -> TokenCount | None:
        """The same, where that takes no time to speak of; None where it does."""
        ...

    async def count(self, texts: Sequence[str], *, encoding: Encoding) -> TokenCount:
        """The tokens of the texts of one request together. Never raises.

        Long texts are counted off the event loop, with bounded work.
        """
        ...

    async def texts(self, ids: Sequence[Sequence[int]], *, encoding: Encoding) -> list[str] | None:
        """The texts of token ids; None if one of them is no token of this encoding, or this can't be told at all.

        Raises `CounterBusy`, within the adapter's own deadline: this is the one thing that can't be estimated.
        """
        ...

    async def close(self) -> None: ...


class ScopeView(msgspec.Struct, frozen=True):
    """One scope: how many questions have a vector, and some of those that still need one, the oldest first."""

    vectors: int
    waiting: tuple[Head, ...]


class VectorIndex(Protocol):
    """Questions that have a stored answer, apart for each scope, and which of them are near to another.

    A question is added without a vector, and found once it has got one. Dead ones (expired, evicted) may be found: whoever meets
    one drops it. The coroutines raise `StoreDown`, within the adapter's own deadline. What is kept beyond this process all nodes
    see; what is added and dropped is known there soon.
    """

    @property
    def shared(self) -> bool:
        """As of a `ReplyStore`."""
        ...

    async def prepare(self) -> None:
        """What takes its time at the start: to find the server, or to bring back what was kept. Meanwhile it may be used."""
        ...

    def add(self, head: Head) -> None:
        """Take the question of a stored answer, in place of an older one under the same key. Never blocks, never raises.

        A key is that of one text in one scope, always.
        """
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

    def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, "Vector | None"]]]:
        """All questions that the selector matches, each with its vector if it has one, page by page; a page may be empty.

        What comes meanwhile may be missing, and one that gets its vector meanwhile may come twice. Between two pages others have
        their turn, and what was found may be dropped.
        """
        ...

    async def status(self) -> Mapping[str, str]:
        """The services it needs, by name, each `up` or `down`; `local` where this process stands in for one. Never raises."""
        ...

    async def close(self) -> None:
        """Send what was taken, then release."""
        ...


class VectorArchive(Protocol):
    """Where an index in process survives a restart. Vectors are bytes of its own making, kept as long as their entries."""

    def keep_vectors(self, vectors: Sequence[tuple[str, bytes]], *, model: str) -> None:
        """Take vectors by their entries' keys, made by `model`, for writing soon. Never blocks, never raises."""
        ...

    def heads(self, *, model: str) -> AsyncIterator[list[tuple[Head, bytes | None]]]:
        """All stored questions, page by page, each with the vector that `model` made of it. Ends early if the store fails."""
        ...

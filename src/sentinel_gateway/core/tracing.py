"""What follows one request through other systems, as the path sees it: a trace, where traces are on."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from sentinel_gateway.core.chat import Batches
    from sentinel_gateway.core.record import Attempt

Found = TypeVar("Found")


class Trace(Protocol):
    """One request's. Belongs to the event loop's thread but for its ids; never blocks, never raises."""

    @property
    def trace_id(self) -> str:
        """Of the whole trace, which may be the caller's: 32 hexadecimal digits."""
        ...

    @property
    def span_id(self) -> str:
        """Of this request within it: 16 hexadecimal digits."""
        ...

    @property
    def sampled(self) -> bool:
        """It is sent somewhere, so that it can be looked up."""
        ...

    def calling(self, target: str, number: int) -> str:
        """A call of a provider begins, the request's `number`th: `traceparent` for it; empty if it is told none."""
        ...

    def heard(self, attempt: "Attempt", batches: "Batches[Found]") -> "Batches[Found]":
        """The chunks of a call's stream, as they come."""
        ...

    def asks_no_tier(self) -> None:
        """The caller wants no stored answer, so the cache is passed by."""
        ...

    async def lookup(self, asking: Awaitable[Found]) -> Found:
        """What a tier of the cache finds."""
        ...

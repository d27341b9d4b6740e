"""What follows one request through other systems, as the path sees it: a trace, where traces are on."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

Found = TypeVar("Found")


class Trace(Protocol):
    """One request's. Belongs to the event loop's thread; never blocks, never raises."""

    def calling(self, target: str, number: int) -> str:
        """A call of a provider begins, the request's `number`th: `traceparent` for it; empty if it is told none."""
        ...

    async def lookup(self, asking: Awaitable[Found]) -> Found:
        """What a tier of the cache finds."""
        ...

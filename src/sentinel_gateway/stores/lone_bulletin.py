"""The bulletin of a node that has no others: nobody hears, and nobody speaks."""

from collections.abc import Callable

from sentinel_gateway.core.bulletin import Notice


class LoneBulletin:
    """A `Bulletin` without Redis."""

    async def publish(self, notice: Notice) -> None:
        pass

    async def follow(self, heard: Callable[[Notice], None], missed: Callable[[], None]) -> None:
        pass

    async def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<LoneBulletin>"

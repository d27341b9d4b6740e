"""What is pinned: answers that never end, that no store of ours evicts, and whose place no newer answer takes."""

import asyncio
from contextlib import suppress
from typing import Final

from sentinel_gateway.core.browsing import View
from sentinel_gateway.core.caching import Entry
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, ReplyStore

AT_ONCE: Final = 500
TRIES: Final = 4
PAUSE: Final = 0.1
"""Seconds between two of them: a store that is only late has answered by then."""
PINNED: Final = View(state="pinned", order="expires", rising=True)


class Pins:
    """The keys of what is pinned in the farther tier, as far as this node knows."""

    def __init__(self, far: ReplyStore | None, clock: Clock) -> None:
        self.keys: frozenset[str] = frozenset()
        self._far = far
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Pins {len(self.keys)}>"

    def has_gone(self, key: str) -> None:
        """The farther tier does not have it: a Redis may evict whatever it likes."""
        if key in self.keys:
            self.keys -= {key}

    async def read(self) -> None:
        """Know them as they are now. Raises `StoreDown`."""
        if self._far is None:
            return
        async with self._one_at_a_time:
            keys, place, more = set[str](), None, True
            while more:
                page = await self._far.page(PINNED, self._clock(), after=place, most=AT_ONCE)
                keys.update(head.key for head in page.heads)
                place, more = page.next, page.next is not None
            self.keys = frozenset(keys)


async def find(far: ReplyStore, key: str) -> Entry | None:
    """An entry, for whoever would rather wait than hear that the store was late. Raises `StoreDown`."""
    for _ in range(TRIES - 1):
        with suppress(StoreDown):
            return await far.get(key)
        await asyncio.sleep(PAUSE)
    return await far.get(key)

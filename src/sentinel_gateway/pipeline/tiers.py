"""What is kept, as one: memory in front of the store on disk, and the index of the questions that are answered there.

A tier that is down or slow is a miss, never an error.
"""

import asyncio

import msgspec

from sentinel_gateway.core.caching import Entry, Hit, Miss, Selector, Step, Tier, Wish, judge
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, NearStore, ReplyStore, VectorIndex


class Tiers:
    """Looks up, keeps and clears. `near_ttl` is the longest time in seconds that memory holds an entry."""

    def __init__(
        self, near: NearStore, far: ReplyStore | None, index: VectorIndex | None = None, *, near_ttl: float, clock: Clock
    ) -> None:
        self._near = near
        self._far = far
        self._index = index
        self.near_ttl = near_ttl
        self._clock = clock
        self.epoch = 0
        """Counts the clears. What was asked before one must not bring cleared entries back: who keeps it asks `cleared_since`."""
        self._cleared: dict[str | None, int] = {}
        """The last clear of each tenant's entries, and of all tenants' (None)."""

    def __repr__(self) -> str:
        return f"<Tiers {self._near!r} then {self._far!r}>"

    async def find(self, key: str, wish: Wish) -> Hit | Miss:
        """Ask memory, then the farther tier."""
        near = self.look_near(key, wish)
        return near if isinstance(near, Hit) else await self.look_far(key, wish, near)

    def look_near(self, key: str, wish: Wish) -> Hit | Step:
        """Ask memory; costs about a microsecond."""
        return judge(self._near.get(key), wish, "memory", self._clock())

    async def look_far(self, key: str, wish: Wish, near: Step) -> Hit | Miss:
        """Ask the farther tier after memory's `near` answer; what it has is brought nearer."""
        if self._far is None:
            return Miss((near,))
        epoch = self.epoch
        try:
            entry = await self._far.get(key)
        except StoreDown:
            return Miss((Step(self._far.tier, "miss", "tier-down"), near))
        now = self._clock()
        found = judge(entry, wish, self._far.tier, now)
        if isinstance(found, Step):
            return Miss((found, near))
        if not self.cleared_since(epoch, found.entry.tenant):
            self._near.put(self._brought_near(found.entry, now))
        return found

    def keep(self, entry: Entry) -> tuple[Tier, ...]:
        """Offer it to every tier; those that took it, the nearest first."""
        taken: list[Tier] = ["memory"] if self._near.put(self._brought_near(entry, self._clock())) else []
        if self._far is not None and self._far.put(entry):
            taken.append(self._far.tier)
        if taken and entry.scope and self._index is not None:
            self._index.add(entry.head())
        return tuple(taken)

    async def clear(self, selector: Selector) -> int:
        """Remove from every tier; how many the fullest of them held. `StoreDown` if the farther one could not."""
        near = self._clear_near(selector)
        try:
            far = 0 if self._far is None else await self._far.clear(selector, self._clock())
        finally:
            self._clear_near(selector)  # a look-up may have brought back what the farther tier had not removed yet
            if self._index is not None:
                await self._index.clear(selector, self._clock())
        return max(near, far)

    def cleared_since(self, epoch: int, tenant: str) -> bool:
        """May entries of this tenant have been cleared since then? What one tenant clears is nothing to the others."""
        return self.epoch != epoch and max(self._cleared.get(None, 0), self._cleared.get(tenant, 0)) > epoch

    def _clear_near(self, selector: Selector) -> int:
        self.epoch += 1
        self._cleared[selector.tenant] = self.epoch
        return self._near.clear(selector, self._clock())

    async def status(self) -> dict[str, str]:
        """`up` or `down` of each farther tier, asked now."""
        if self._far is None:
            return {}
        try:
            async with asyncio.timeout(3):
                await self._far.ping()
        except (StoreDown, TimeoutError):
            return {self._far.tier: "down"}
        return {self._far.tier: "up"}

    def size(self) -> tuple[int, int]:
        """Entries and bytes in memory."""
        return self._near.size()

    async def count(self) -> int:
        """Entries kept, in whichever tier holds more; those of memory while the farther one does not answer."""
        near, _ = self._near.size()
        if self._far is None:
            return near
        try:
            return max(near, await self._far.count())
        except StoreDown:
            return near

    def _brought_near(self, entry: Entry, now: float) -> Entry:
        expires = min(entry.expires, now + self.near_ttl)
        return entry if expires == entry.expires else msgspec.structs.replace(entry, expires=expires)

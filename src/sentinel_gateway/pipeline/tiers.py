"""What is kept, as one: memory in front of a farther store, and the index of the questions that are answered there.

A tier that is down or slow is a miss, never an error. What one node clears is cleared on all (docs/decisions/020).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from typing import Final

import msgspec

from sentinel_gateway.core.browsing import Order, Page, Place, Selection, View, page_of
from sentinel_gateway.core.bulletin import CacheCleared, EntryAmended
from sentinel_gateway.core.caching import NOT_IN_MEMORY, Entry, Head, Hit, Miss, Selector, Step, Tier, Wish, judge, outlived
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline.clears import Clears, as_of
from sentinel_gateway.pipeline.pins import Pins, find
from sentinel_gateway.ports import Bulletin, Clock, NearStore, ReplyStore, VectorIndex

LATE_SECONDS: Final = 10.0
"""What this node has put into a shared store for so long may have come after a clear of which it did not know yet."""
LATE_ENTRIES: Final = 10_000
KEYS_AT_ONCE: Final = 500
"""Entries in one notice that names them."""
DROPPED_AT_ONCE: Final = 16
"""Questions that leave an index in process before the event loop gets its turn."""
NEVER: Final = (0.0, None)
IN_MEMORY: Final[frozenset[Order]] = frozenset({"created", "expires"})
RETRY_SECONDS: Final = 1.0
"""Between two attempts at what other nodes have asked for."""


@contextmanager
def failing_to(do: str) -> Iterator[None]:
    """Let a `StoreDown` say what it kept us from."""
    try:
        yield
    except StoreDown as exc:
        raise StoreDown(f"{do}: {exc}") from exc


class Tiers:
    """Looks up, keeps and clears. `near_ttl` is the longest time in seconds that memory holds an entry."""

    def __init__(
        self,
        near: NearStore,
        far: ReplyStore | None,
        index: VectorIndex | None = None,
        *,
        bulletin: Bulletin,
        near_ttl: float,
        clock: Clock,
    ) -> None:
        self._near = near
        self._far = far
        self._index = index
        self._bulletin = bulletin
        self.near_ttl = near_ttl
        self._clock = clock
        self.epoch = 0
        """Counts the clears. What was asked before one must not bring cleared entries back: who keeps it asks `cleared_since`."""
        self._cleared: dict[str | None, int] = {}
        """The last clear of each tenant's entries, and of all tenants' (None)."""
        self._lately: dict[str, tuple[float, Head]] = {}
        """What this node has put into a shared store, and when; the oldest first."""
        self._going: set[Head] = set()
        """Of that, what is being taken back."""
        self._clears = Clears()
        self.pins = Pins(far, clock)
        self._amendments = 0
        """Entries that were given another end: what was looked up before is not brought nearer."""
        self._errands: set[asyncio.Task[None]] = set()
        """What other nodes have asked for and is still to be done."""

    def __repr__(self) -> str:
        return f"<Tiers {self._near!r} then {self._far!r}>"

    async def find(self, key: str, wish: Wish) -> Hit | Miss:
        """Ask memory, then the farther tier."""
        near = self.look_near(key, wish)
        return near if isinstance(near, Hit) else await self.look_far(key, wish, near)

    def look_near(self, key: str, wish: Wish) -> Hit | Step:
        """Ask memory; costs about a microsecond."""
        entry = self._near.get(key)
        return NOT_IN_MEMORY if entry is None else judge(entry, wish, "memory", self._clock(), last=self._far is None)

    async def look_far(self, key: str, wish: Wish, near: Step) -> Hit | Miss:
        """Ask the farther tier after memory's `near` answer; what it has is brought nearer."""
        far, epoch, amendments = self._far, self.epoch, self._amendments
        if far is None:
            return Miss((near,))
        try:
            entry = await far.get(key)
        except StoreDown:
            return Miss((Step(far.tier, "miss", "tier-down"), near))
        if entry is None:
            self.pins.has_gone(key)
            return Miss((Step(far.tier, "uri-miss"), near))
        now = self._clock()
        found = judge(entry, wish, far.tier, now, last=True)
        if isinstance(found, Step):
            return Miss((found, near))
        if not found.stale and self._amendments == amendments and not self.cleared_since(epoch, found.entry.tenant):
            self._near.put(self._brought_near(found.entry, now))
        return found

    async def find_outlived(self, key: str, within: float) -> Hit | Miss:
        """What has expired, but not for longer than `within` seconds: for who gets no other answer."""
        steps: tuple[Step, ...] = (Step("memory", "miss"),)
        if self._far is not None:
            try:
                found = outlived(await self._far.get(key), self._far.tier, self._clock(), within=within)
            except StoreDown:
                steps = (Step(self._far.tier, "miss", "tier-down"), *steps)
            else:
                if found is not None:
                    return found
                steps = (Step(self._far.tier, "miss"), *steps)
        return outlived(self._near.get(key), "memory", self._clock(), within=within) or Miss(steps)

    def keep(self, entry: Entry) -> tuple[Tier, ...]:
        """Offer what has just been made to every tier; those that took it, the nearest first."""
        taken: tuple[Tier, ...] = ("memory",) if self._near.put(self._brought_near(entry, entry.created)) else ()
        if (far := self._far) is not None:
            if far.put(entry):
                taken += (far.tier,)
            if far.shared:  # whatever it says: what it may have dropped may be written yet
                self._remember(entry)
        if taken and entry.scope and self._index is not None:
            self._index.add(entry.head())
        return taken

    async def clear(self, selector: Selector) -> int:
        """Remove from every tier of every node; how many the fullest of them held.

        `StoreDown` says what could not be done, be it to tell the other nodes: then some of it may still be there.
        """
        self._clears.note(selector, self._clock())
        removed, fault = self._clear_near(selector), None
        with suppress(StoreDown):  # so early that what is under way on other nodes is not kept; that they know is seen to below
            await self._tell(selector)
        for step in (self._clear_far, self._tell, self._clear_index):
            try:
                removed = max(removed, await step(selector))
            except StoreDown as exc:
                fault = fault or exc
        self._look_at_pins()
        if fault is not None:
            raise fault
        return removed

    async def remove(self, heads: Iterable[Head]) -> int:
        """As `clear`, for entries that are known; what one tenant asked for is nothing to the answers of another."""
        removed = 0
        for selector, chosen in in_parts(heads):
            self._clears.note(selector, self._clock())
            near = self._clear_near(selector)
            removed += max(near, await self._clear_far(selector))
            await self._tell(selector)
            await self._drop(chosen)
            self._going.difference_update(chosen)
            for head in chosen:
                if self._lately.get(head.key, NEVER)[1] == head:  # else another answer has come in meanwhile
                    del self._lately[head.key]
        self._look_at_pins()
        return removed

    def late(self, selector: Selector) -> list[Head]:
        """Of what the selector matches, what this node has put into a shared store before it can have known of a clear."""
        now = self._clock()
        keys = list(self._lately) if selector.keys is None else selector.keys & self._lately.keys()
        lately = (self._lately[key] for key in keys)
        return [head for at, head in lately if at >= now - LATE_SECONDS and selector.matches(head, now)]

    def take_back(self, heads: Sequence[Head]) -> None:
        """Remove what came too late. That is done beside, and tried until it is done: nobody tells us a second time."""
        new = [head for head in heads if head not in self._going]
        self._going.update(new)
        if new:
            self._see_to(partial(self.remove, new))

    def clear_own(self, selector: Selector) -> None:
        """Another node has cleared this from all that is shared: remove it from what is this node's alone, and take back.

        Memory is rid of it at once, and the next notice is not held up: the rest is done beside, and tried until it is done.
        """
        self._clear_near(selector)
        now = self._clock()
        self._clears.note(selector, now)
        if self._index is not None and not self._index.shared:
            self._see_to(partial(self._index.clear, selector, now))
        if self._far is not None and not self._far.shared:
            self._see_to(partial(self._far.clear, selector, now))
        self.take_back(self.late(selector))
        self._look_at_pins()

    def forget(self) -> None:
        """Other nodes may have cleared what this one was not told of: keep nothing that they may have meant.

        And Redis may have come back from a time before what is known to be cleared.
        """
        self._clear_near(Selector())
        self.take_back(self.late(Selector()))
        if self._far is not None and self._far.shared:
            self._see_to(partial(self._clear_again, self._clears.since(self._clock())))
            self.learn_pins()

    # --- for whoever administrates ---

    @property
    def lasting(self) -> Tier | None:
        """The tier that keeps what is not asked for; None if there is but memory."""
        return None if self._far is None else self._far.tier

    def orders(self, tier: Tier) -> frozenset[Order]:
        """In which entries of this tier can be looked through."""
        return self._far.orders if self._far is not None and tier == self._far.tier else IN_MEMORY

    async def page(self, view: View, tier: Tier, *, after: Place | None, most: int) -> Page:
        """Some entries of memory, or of the farther tier. Raises `StoreDown`."""
        now = self._clock()
        if self._far is not None and tier == self._far.tier:
            return await self._far.page(view, now, after=after, most=most)
        return await asyncio.to_thread(page_of, self._near.held(), view, now, after=after, most=most)

    async def entry(self, key: str) -> tuple[Entry, Tier] | None:
        """An entry as it is kept, and where. Raises `StoreDown`."""
        if self._far is not None and (kept := await find(self._far, key)) is not None:
            return kept, self._far.tier
        near = self._near.get(key)
        return None if near is None else (near, "memory")

    async def preview(self, selector: Selector, *, sample: int) -> Selection:
        """What `clear` would remove now, and some of it: the same query on every tier. Raises `StoreDown`."""
        now = self._clock()
        near = await asyncio.to_thread(lambda: [entry for entry in self._near.held() if selector.matches(entry, now)])
        far = Selection() if self._far is None else await self._far.select(selector, now, sample=sample)
        return far if far.count >= len(near) else Selection(len(near), tuple(entry.head() for entry in near[:sample]))

    async def amend(self, key: str, *, expires: float) -> Entry | None:
        """Have an entry of the farther tier end at another time, on all nodes; None if there is none.

        Raises `StoreDown`, also where the store would not take it: then it may end as before.
        """
        far, epoch = self._far, self.epoch
        before = None if far is None else await find(far, key)
        if far is None or before is None or self.cleared_since(epoch, before.tenant):
            return None
        after = msgspec.structs.replace(before, expires=expires)
        taken = far.put(after)
        if far.shared:
            self._remember(after)
        if self._index is not None and after.scope:
            self._index.drop([before.head()])
            self._index.add(after.head())
        with suppress(StoreDown):  # also of others' entries that were lost; whether this one was is seen below
            await far.flush()
        self._forget_near(key)
        if not taken or await find(far, key) != after:
            raise StoreDown("the change was not taken")
        await self.pins.read()
        with suppress(StoreDown):  # what others have in memory ends by itself soon, and they look at the pins when they are back
            await self._bulletin.publish(EntryAmended(key))
        return after

    def amended(self, key: str) -> None:
        """Another node has amended this entry."""
        self._forget_near(key)
        self.learn_pins()

    def _forget_near(self, key: str) -> None:
        """Have the farther tier asked for it."""
        self._amendments += 1
        self._near.clear(Selector(keys=frozenset({key})), self._clock())

    def learn_pins(self) -> None:
        """Soon know what is pinned."""
        self._see_to(self.pins.read)

    def _look_at_pins(self) -> None:
        """Some may have been cleared."""
        if self.pins.keys:
            self.learn_pins()

    async def close(self) -> None:
        """Stop what is done beside the path."""
        errands = list(self._errands)
        for errand in errands:
            errand.cancel()
        await asyncio.gather(*errands, return_exceptions=True)

    def _remember(self, entry: Entry) -> None:
        now = self._clock()
        self._lately.pop(entry.key, None)
        self._lately[entry.key] = (now, entry.head())
        while len(self._lately) > LATE_ENTRIES or next(iter(self._lately.values()))[0] < now - LATE_SECONDS:
            del self._lately[next(iter(self._lately))]

    async def _clear_again(self, clears: list[tuple[Selector, float]]) -> None:
        while clears:
            selector = as_of(*clears[0], self._clock())
            if await self._clear_far(selector):
                with suppress(StoreDown):  # whoever knows of the clear does the same
                    await self._tell(selector)
            del clears[0]

    async def _clear_far(self, selector: Selector) -> int:
        """Clear the farther tier, and memory after it: a look-up may have brought back what was not removed yet."""
        if self._far is None:
            return 0
        try:
            with failing_to("flush Redis" if self._far.tier == "redis" else "clear the store on disk"):
                return await self._far.clear(selector, self._clock())
        finally:
            self._clear_near(selector)

    async def _tell(self, selector: Selector) -> int:
        with failing_to("tell the other nodes"):
            await self._bulletin.publish(CacheCleared(selector))
        return 0

    async def _clear_index(self, selector: Selector) -> int:
        """No entry goes with it."""
        if self._index is not None:
            with failing_to("clear the index of questions"):
                await self._index.clear(selector, self._clock())
        return 0

    async def _drop(self, heads: Sequence[Head]) -> None:
        """Forget the questions, also those that are still on their way to a shared index: there it comes after them."""
        if self._index is not None:
            for start in range(0, len(heads), DROPPED_AT_ONCE):
                self._index.drop(heads[start : start + DROPPED_AT_ONCE])
                await asyncio.sleep(0)

    def _see_to(self, work: Callable[[], Awaitable[object]]) -> None:
        errand = asyncio.create_task(_until_done(work))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    def cleared_since(self, epoch: int, tenant: str) -> bool:
        """May entries of this tenant have been cleared since then? What one tenant clears is nothing to the others."""
        return self.epoch != epoch and max(self._cleared.get(None, 0), self._cleared.get(tenant, 0)) > epoch

    def _clear_near(self, selector: Selector) -> int:
        self.epoch += 1
        self._cleared[selector.tenant] = self.epoch
        return self._near.clear(selector, self._clock())

    async def status(self) -> dict[str, str]:
        """`up` or `down` of each farther tier, asked now, and what the index says of its own services."""
        of_index = {} if self._index is None else dict(await self._index.status())
        if self._far is None:
            return of_index
        try:
            async with asyncio.timeout(3):
                await self._far.ping()
        except (StoreDown, TimeoutError):
            return {self._far.tier: "down"} | of_index
        return {self._far.tier: "up"} | of_index

    def size(self) -> tuple[int, int]:
        """Entries and bytes in memory."""
        return self._near.size()

    async def count(self) -> int:
        """Entries kept, in whichever tier holds more; those of memory while the farther one does not answer."""
        near, _ = self._near.size()
        if self._far is not None:
            with suppress(StoreDown):
                return max(near, await self._far.count())
        return near

    def _brought_near(self, entry: Entry, now: float) -> Entry:
        expires = min(entry.expires, now + self.near_ttl)
        return entry if expires == entry.expires else msgspec.structs.replace(entry, expires=expires)


def in_parts(heads: Iterable[Head]) -> Iterator[tuple[Selector, Sequence[Head]]]:
    """Each tenant's by itself, and no more than one notice may name."""
    for tenant, group in groupby(sorted(heads, key=lambda head: head.tenant), key=lambda head: head.tenant):
        theirs = list(group)
        for start in range(0, len(theirs), KEYS_AT_ONCE):
            part = theirs[start : start + KEYS_AT_ONCE]
            yield Selector(tenant=tenant, keys=frozenset(head.key for head in part)), part


async def _until_done(work: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await work()
        except StoreDown:
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return

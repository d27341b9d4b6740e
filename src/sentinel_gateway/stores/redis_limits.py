"""Limits of all nodes together: buckets in Redis, taken from by one script, on Redis' own clock.

Each node also keeps a table of its own, as a node alone does: how each bucket stood when it last asked, and how many places in
flight are its own. That is what it goes on with while Redis is away, with its share of each limit (`core.limits.share`). With
each take it says how it knows the buckets: one that Redis has lost, by whatever, stands as the node knew it. No limit is whole
again because of an outage.

End users are not bounded here as they are in process: Redis drops each bucket by itself once it is whole.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final

from msgspec.structs import replace

from sentinel_gateway.core.budgets import Allowance, Hold
from sentinel_gateway.core.limits import Charge, Verdict, judge, settled, share
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Events
from sentinel_gateway.stores._accounts import Standing
from sentinel_gateway.stores._limit_rows import NO_ACCOUNTS, Asking, BucketRow, Found, integers, read_found
from sentinel_gateway.stores._redis import RedisLink, end
from sentinel_gateway.stores._redis_member import Member
from sentinel_gateway.stores._redis_script import Script
from sentinel_gateway.stores._shared_accounts import Asked, SharedAccounts, past_row
from sentinel_gateway.stores.memory_limits import MemoryLimits

PREFIX: Final = "sentinel:limit:1"
NODES: Final = "sentinel:nodes:1"
"""Both with the version of what lies below them."""
BEAT_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 10.0
"""A node that has not been heard of for so long is none."""
LEASE_SECONDS: Final = 30.0
"""A place in flight is free again so long after its node has last said that it holds it; a third of it is between two times."""
AT_ONCE: Final = 100
"""Buckets of which one call tells."""
AT_A_TIME: Final = 6
"""Calls about accounts: there are ten connections."""
LATE_PLACES: Final = 10_000
FEW: Final = 1024
"""Buckets whose births are kept before anybody looks which are needed."""

Where = tuple[str, ...]
"""The buckets from which a place was taken, all at once."""


class SharedLimits:
    """A `LimitStore` for all nodes, over a link that is its maker's to close. To be opened and closed.

    Tells limits_apart when it can't keep in step with the other nodes for a while, and limits_together when it can again.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        member: Member,
        replicas: int,
        accounts: SharedAccounts,
        events: Events,
        lease: float = LEASE_SECONDS,
    ) -> None:
        self._link = link
        self._prefix = f"{PREFIX}:{member.owner}:"
        self._all_nodes = f"{NODES}:{member.owner}"
        self._node = member.node
        self._replicas = replicas
        clock = self._clock = accounts.clock
        self._events = events
        self._lease = lease
        self._take_or_settle = Script("limits")
        self._beat = Script("beat")
        self._own = MemoryLimits(clock=clock)
        self._accounts = accounts
        self._nodes = 1
        self._apart = self._was_heard = False
        self._born: dict[str, int] = {}
        """When the buckets came to be that this node has seen in Redis, as Redis says."""
        self._most_born = FEW
        self._untold: set[str] = set()
        """Buckets of which more is spent than Redis knows, though it may still have them."""
        self._doubted: set[str] = set()
        """Buckets that Redis may have lost."""
        self._places: dict[Where, dict[str, bool]] = {}
        """Places in flight by their names; True if Redis may know of it."""
        self._late: deque[tuple[float, Where, str]] = deque(maxlen=LATE_PLACES)
        """Places that could not be given back, and when that was tried."""
        self._number = count()
        self._queue = asyncio.Semaphore(AT_A_TIME)
        self._beside: set[asyncio.Task[None]] = set()
        self._renewed = clock()
        """When places were taken again last."""
        self._tending: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = f"apart, 1/{self.nodes} of each limit" if self._apart else f"{self.nodes} nodes"
        return f"<SharedLimits {self.buckets()} buckets seen, {state}>"

    @property
    def nodes(self) -> int:
        """As many as there should be, or as were last heard of, if that is more."""
        return max(self._replicas, self._nodes)

    async def open(self) -> None:
        """Once the program has loaded what it needs: while its event loop stands still, Redis looks as if it were away.

        And one that was away may have lost what was spent: for 15 s nobody would be told how much is left.
        """
        with suppress(StoreDown):
            await self._link.check()
        await self._keep_step()
        self._tending = asyncio.create_task(self._tend())

    def take_now(self, charges: Sequence[Charge], now: float, hold: Hold | None = None) -> Verdict | None:  # noqa: ARG002 - as it says
        """None: Redis has to be asked what other nodes have taken."""
        return None

    async def take(self, charges: Sequence[Charge], hold: Hold | None = None) -> Verdict:
        taking = asyncio.create_task(self._take(charges, hold))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:  # whether Redis has heard of it can't be known before it answers
            self._go_on(self._undo(taking, charges, hold))
            raise

    async def settle(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> None:
        tokens = [correction for correction in corrections if correction.rate]
        if tokens or hold is not None:
            await self._correct(tokens, hold, cost)
        if places := [correction for correction in corrections if not correction.rate]:
            await self._leave(places)

    def settle_now(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> bool:  # noqa: ARG002 - Redis is to be told
        return False

    def buckets(self) -> int:
        """Those of which this node knows."""
        return self._own.buckets()

    async def close(self) -> None:
        """Be no node any more; what was drawn and not needed is others', and so are places that are still to be given back."""
        await end(*self._beside, *([self._tending] if self._tending is not None else []))
        await self._free_late()
        with suppress(StoreDown):
            await self._tell_accounts(nodes=0)
            await self._link.call(lambda client: client.zrem(self._all_nodes, self._node))

    # --- what a request waits for ---

    async def _take(self, charges: Sequence[Charge], hold: Hold | None) -> Verdict:
        where = tuple(charge.bucket for charge in charges if charge.cost and not charge.rate)
        place = f"{self._node}:{next(self._number)}" if where else ""
        may_know = self._link.works
        asked = None if hold is None else self._accounts.ask(hold, nodes=self.nodes)
        try:
            found = await self._run("take", place, [self._row(charge) for charge in charges], Asking.of(asked))
        except StoreDown:
            verdict = await self._take_apart(charges, asked)
            if verdict.refused is not None and may_know and place:
                self._late.append((self._clock(), where, place))
        else:
            may_know = True
            verdict = self._taken(charges, asked, found)
            if place and verdict.refused is None:
                await self._own.settle([charge for charge in charges if charge.cost and not charge.rate])
        if place and verdict.refused is None:
            self._places.setdefault(where, {})[place] = may_know
        return verdict

    def _taken(self, charges: Sequence[Charge], asked: Asked | None, found: Found) -> Verdict:
        """What Redis has said."""
        states = {charge.bucket: (spent, 0, charge.rate) for charge, spent in zip(charges, found.spent, strict=True)}
        verdict = judge(charges, states.get, 0)
        if asked is not None:
            accounts, refused = self._accounts.granted(asked, found.accounts, taken=found.taken)
            verdict = _with(verdict, found.spent, accounts, refused)
        self._learn(charges, verdict.spent, found.born)
        return verdict

    async def _take_apart(self, charges: Sequence[Charge], asked: Asked | None) -> Verdict:
        """What this node may do without Redis."""
        accounts, refused = ((), None) if asked is None else self._accounts.apart(asked)
        if refused is not None:
            return Verdict(charges, [self._own.spent(charge.bucket) for charge in charges], refused, accounts=accounts)
        verdict = await self._own.take([share(charge, self.nodes) for charge in charges])
        if verdict.refused is None:
            self._untold.update(charge.bucket for charge in charges if charge.cost and charge.rate)
        elif asked is not None:
            self._accounts.release(asked.hold)
        return replace(verdict, accounts=accounts)

    async def _correct(self, corrections: Sequence[Charge], hold: Hold | None, cost: int) -> None:
        asked = None if hold is None else self._accounts.settle(hold, cost, nodes=self.nodes)
        try:
            found = await self._run("settle", "", [self._row(correction) for correction in corrections], Asking.of(asked))
        except StoreDown:
            await self._own.settle([share(correction, self.nodes) for correction in corrections])
            self._untold.update(correction.bucket for correction in corrections)
            if asked is not None:
                self._accounts.lost(asked)
        else:
            known = zip(corrections, found.spent, strict=True)
            after = [settled(correction, (spent, 0, correction.rate), 0) for correction, spent in known]
            self._learn(corrections, after, found.born)
            if asked is not None:
                self._accounts.settled(asked, found.accounts)

    async def _leave(self, places: Sequence[Charge]) -> None:
        """Give back any of the places that were taken from these buckets: one is as good as another."""
        await self._own.settle(places)
        where = tuple(place.bucket for place in places)
        held = self._places.get(where, {})
        if held:
            name, is_known = held.popitem()
            if not held:
                del self._places[where]
            if is_known:
                await self._free(where, name)

    async def _free(self, where: Where, name: str) -> None:
        try:
            await self._run("settle", name, [BucketRow(bucket, 0, 0, -1) for bucket in where])
        except StoreDown:
            self._late.append((self._clock(), where, name))

    async def _undo(self, taking: asyncio.Task[Verdict], charges: Sequence[Charge], hold: Hold | None) -> None:
        if (await taking).refused is None:
            held = hold if hold is not None and hold.amount else None
            await self.settle([charge.of(-charge.amount) for charge in charges if charge.cost], held)

    def _row(self, charge: Charge) -> BucketRow:
        bucket = charge.bucket
        return BucketRow(bucket, charge.rate, charge.capacity, charge.cost, self._own.spent(bucket), self._birth(bucket))

    def _birth(self, bucket: str) -> int:
        return 0 if bucket in self._untold else self._born.get(bucket, 0)

    def _learn(self, charges: Sequence[Charge], spent: Sequence[int], born: Sequence[int]) -> None:
        for charge, now_spent, birth in zip(charges, spent, born, strict=True):
            if charge.rate:
                self._own.learn(charge, now_spent)
                self._born[charge.bucket] = birth
                self._untold.discard(charge.bucket)
        if len(self._born) > self._most_born:
            known = self._own.known()
            self._born = {bucket: birth for bucket, birth in self._born.items() if bucket in known}
            self._most_born = max(FEW, 2 * len(self._born))

    async def _run(self, how: str, place: str, rows: Sequence[BucketRow], asking: Asking = NO_ACCOUNTS) -> Found:
        """Raises `StoreDown`. About money a crowd queues, rather than go on without Redis for want of a connection."""
        if not asking.accounts:
            return await self._run_now(how, place, rows, asking)
        async with self._queue:
            return await self._run_now(how, place, rows, asking)

    async def _run_now(self, how: str, place: str, rows: Sequence[BucketRow], asking: Asking) -> Found:
        keys = [self._prefix + name for name in (*(row.bucket for row in rows), *asking.accounts)]
        numbers = [number for row in rows for number in row[1:]] + [number for row in asking.rows for number in row]
        arguments: list[str | int] = [how, place, int(self._lease * 1000), len(rows), asking.node or self._node, *numbers]
        return await self._take_or_settle.run(self._link, keys, arguments, partial(read_found, len(rows), len(asking.rows)))

    # --- what is done beside ---

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._keep_step()

    async def _keep_step(self) -> None:
        """Say that this node lives, and have Redis know what it knows."""
        try:
            forgotten = await self._say_alive()
            renews = forgotten or self._apart or self._clock() - self._renewed >= self._lease / 3
            await self._tell_all()
            await self._tell_accounts(nodes=self.nodes)
            await self._free_late()
            if renews:
                self._renewed = self._clock()
                await self._renew_places()
        except Exception as exc:  # noqa: BLE001 - broad: whatever happens, a node that lives must go on saying so
            self._accounts.suspect()
            if not self._apart:
                self._apart = True
                self._doubt()
                self._events.note("limits_apart", nodes=self.nodes, reason=str(exc) or type(exc).__name__)
        else:
            if self._apart:
                self._apart = False
                self._events.note("limits_together", nodes=self.nodes)

    async def _say_alive(self) -> bool:
        """Whether Redis has forgotten this node, and so may have forgotten all else."""
        arguments: list[str | int] = [self._node, int(DEAD_SECONDS * 1000)]
        self._nodes, forgotten = await self._beat.run(self._link, [self._all_nodes], arguments, _read_beat)
        if forgotten and (self._was_heard or self._accounts.suspicious):
            self._doubt()
            self._accounts.doubt()
        self._accounts.trust()
        self._was_heard = True
        return forgotten

    def _doubt(self) -> None:
        """Redis may have lost what was spent: it was away, or was emptied."""
        self._doubted.update(self._own.known())

    async def _tell_all(self) -> None:
        if not self._untold and not self._doubted:
            return
        known = self._own.known()
        self._untold.intersection_update(known)
        self._doubted.intersection_update(known)
        for buckets in _of_one_slot(self._untold | self._doubted):
            rows = [
                BucketRow(name, rate, spent, 0, spent, self._birth(name)) for name in buckets for spent, _, rate in [known[name]]
            ]
            untold = self._untold.intersection(buckets)
            self._untold -= untold  # first: what is spent apart meanwhile is to be told again
            try:
                found = await self._run("settle", "", rows)
            except StoreDown:
                self._untold |= untold
                raise
            self._doubted.difference_update(buckets)
            self._born.update(zip(buckets, found.born, strict=True))

    async def _tell_accounts(self, *, nodes: int) -> None:
        """That this node lives is told with each account that it has drawn on; and what others have left behind."""
        for left in self._accounts.unsaid():
            await self._run("settle", "", [], Asking([left.account], [past_row(left)], left.node))
            self._accounts.said(left)
        pending = self._accounts.pending()
        for names in _of_one_slot(pending):
            rows = [self._accounts.tell(pending[name], nodes=nodes) for name in names]
            found = await self._run("settle", "", [], Asking(names, rows))
            for name, row, told in zip(names, rows, found.accounts, strict=True):
                self._accounts.heard(name, row, told)

    async def _free_late(self) -> None:
        for _ in range(len(self._late)):
            at, where, name = self._late.popleft()
            if self._clock() - at < self._lease:
                await self._free(where, name)

    async def _renew_places(self) -> None:
        """Also those that were taken while Redis was away, or that it has forgotten."""
        for where, held in list(self._places.items()):
            for name in list(held):
                await self._run("settle", name, [BucketRow(bucket, 0, 0, 1) for bucket in where])
                if name in held:
                    held[name] = True
                else:  # given back in the very moment
                    await self._free(where, name)


def _with(verdict: Verdict, before: Sequence[int], accounts: Standing, refused: Allowance | None) -> Verdict:
    """The same, with what was said of a hold: where that does not fit, nothing was taken."""
    if refused is None or verdict.refused is not None:
        return replace(verdict, accounts=accounts)
    return Verdict(verdict.charges, before, refused, accounts=accounts)


def _read_beat(answer: Any) -> tuple[int, bool]:
    nodes, forgotten = integers(answer, 2)
    return nodes, bool(forgotten)


def _of_one_slot(buckets: Iterable[str]) -> Iterator[list[str]]:
    """Buckets whose keys a cluster has in one place, some at a time."""
    by_tag: dict[str, list[str]] = {}
    for bucket in buckets:
        by_tag.setdefault(bucket.partition("}")[0], []).append(bucket)
    for together in by_tag.values():
        for start in range(0, len(together), AT_ONCE):
            yield together[start : start + AT_ONCE]

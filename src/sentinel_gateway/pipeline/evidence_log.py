"""Evidence on its way to its store: rows wait for each other and are written together, beside the path."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from sentinel_gateway.core.budget import NONE, OF
from sentinel_gateway.core.evidence import ALL, HOUR, Count, Decision, Finding, Findings, Label, Standing, Standings, standings
from sentinel_gateway.core.spending import DayBook
from sentinel_gateway.core.tightening import OFF, Rule, Stance, proof, stepped
from sentinel_gateway.errors import StoreDown, place_of
from sentinel_gateway.ports import Clock, Events, EvidenceStore

PAUSE: Final = 0.5
"""Seconds that rows wait for others to be written with."""
WAITING: Final = 10_000
"""Decisions that wait at most, and scopes with counts; what comes beyond is lost."""
AT_ONCE: Final = 500
"""Decisions, and counts, in one write."""
WINDOW: Final = 7 * 86_400.0
"""Seconds of evidence that an estimate is made of."""
SCOPES: Final = 20
"""Scopes that have an estimate of their own: the busiest."""
FRESH: Final = 60.0
"""Seconds that an estimate is good for, at least: to make one takes the store up to some hundred milliseconds."""
FOLLOW: Final = 1.0
"""Seconds after which another node's steps are known here, where nodes keep evidence together."""
NOTHING: Final = standings(Findings((), 0, 0, ()), {})


class EvidenceLog:
    """Keeps decisions and labels, knows how things stand by them, and how strict to be for that. To be closed.

    `most_wrong` is the deployment's budget, which may be changed at any time; those of others come with their requests. `shared`:
    other nodes use the store as well, and what they close is closed here.
    """

    def __init__(self, store: EvidenceStore, clock: Clock, events: Events, *, shared: bool = False) -> None:
        self._store = store
        self._shared = shared
        self._following: asyncio.Task[None] | None = None
        self._clock = clock
        self._events = events
        self._waiting: list[Decision] = []
        self._counts: dict[tuple[int, str], Counter[bool]] = {}
        self._warned: set[str] = set()
        self._writing: asyncio.Task[None] | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._one_flush = asyncio.Lock()
        self._one_estimate = asyncio.Lock()
        self._estimated = 0.0
        self._stances: dict[str, Stance] = {}
        self._are_known = not shared
        """Was it ever read what others have closed?"""
        self._rates: dict[str, float] = {}
        """Of the budgets below the deployment's that somebody has asked under."""
        self.most_wrong = 1.0
        self.standings: Standings = NOTHING
        """As they were a minute ago, while requests come."""

    def __repr__(self) -> str:
        return f"<EvidenceLog {len(self._waiting)} waiting, {self._store!r}>"

    def keep(self, decision: Decision) -> None:
        """Take it for writing soon; never blocks, never raises."""
        if len(self._waiting) >= WAITING:
            self._warn("evidence_lost", "too much waits to be written")
            return
        self._waiting.append(decision)
        self._write()

    def count(self, scope: str, budgets: Mapping[str, float] = NONE, *, hit: bool) -> None:
        """One more request has reached the decision in this scope, under these budgets by their names. As `keep`."""
        hour = int(self._clock() // HOUR)
        for name in (scope, *budgets):
            if (hour, name) not in self._counts and len(self._counts) >= WAITING:
                self._warn("evidence_lost", "too much waits to be written")
                return
            self._counts.setdefault((hour, name), Counter())[hit] += 1
        if budgets:
            self._rates |= budgets
            while len(self._rates) > WAITING:
                del self._rates[next(iter(self._rates))]
        self._write()

    async def find(self, id: str, *, tenant: str) -> Decision | None:  # noqa: A002 - its name
        """As `EvidenceStore.find`, of what has come so far."""
        await self.flush()
        return await self._store.find(id, tenant=tenant)

    async def get(self, id: str) -> Decision | None:  # noqa: A002 - its name
        """As `EvidenceStore.get`, of what has come so far."""
        await self.flush()
        return await self._store.get(id)

    async def labels(self, decision: str) -> tuple[Label, ...]:
        """As `EvidenceStore.labels`."""
        return await self._store.labels(decision)

    async def label(self, label: Label) -> bool:
        """As `EvidenceStore.label`."""
        return await self._store.label(label)

    async def labelled(self, since: float) -> Sequence[Finding]:
        """What was labelled since then, and decided. Raises `StoreDown`."""
        await self.flush()
        return (await self._store.findings(since, scopes=0)).labels

    async def restore(self, book: DayBook) -> None:
        """Have it know what the day has cost before the start, if the store can tell."""
        with suppress(StoreDown):
            book.restore(await self._store.spent(), self._clock())

    async def spend(self, book: DayBook) -> None:
        """Keep what the day has cost since the last time, so that a restart knows of it. Where that fails, the next time."""
        cost = book.take(self._clock())
        if not cost.whole:
            return
        try:
            await self._store.spend(cost)
        except StoreDown:
            book.put_back(cost)

    def level(self, scope: str, budgets: Iterable[str] = ()) -> int:
        """How many steps stricter than configured this scope is now, or all are, or one of these budgets (`core.tightening`).

        Nothing serves before it is known whether other nodes have closed it.
        """
        if not self._are_known:
            return OFF
        if not self._stances:
            return 0
        return max((self._stances[name].level for name in (ALL, scope, *budgets) if name in self._stances), default=0)

    def rate(self, budget: str) -> float | None:
        """What the budget of this name allows, if a request has told since the start."""
        return self._rates.get(budget)

    @contextmanager
    def faults(self) -> Iterator[None]:
        """A fault of ours ends what is done within, and is told."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - broad: beside the path nobody else would hear of it
            self._events.note("evidence_failed", error=type(exc).__name__, at=place_of(exc))

    async def estimate(self) -> Standings:
        """How things stand now, and what follows from it. Raises `StoreDown`."""
        await self.flush()
        async with self._one_estimate:  # the same evidence is good for one step
            await self._look()
            standings = self.standings
            for blamed in (standings.scopes, standings.budgets, (standings.overall,)):
                if any([await self._step(standing) for standing in blamed]):
                    break  # what one scope is to blame for is not held against a whole budget, nor that against all
            return standings

    async def open(self) -> None:
        """Be as strict as before the start, and know how things stood, if the store can tell."""
        with suppress(StoreDown):
            await self._look()
        if self._shared:
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """While the store is away, what was known last holds."""
        while True:
            await asyncio.sleep(FOLLOW)
            with self.faults(), suppress(StoreDown):
                async with self._one_estimate:  # else what this node does meanwhile would be undone for a second
                    await self._read_stances()

    async def _read_stances(self) -> None:
        self._stances = {stance.scope: stance for stance in await self._store.stances()}
        self._are_known = True

    async def _look(self) -> None:
        now = self._estimated = self._clock()
        await self._read_stances()
        since = {scope: stance.since for scope, stance in self._stances.items()}
        found = await self._store.findings(now - WINDOW, scopes=SCOPES)
        self.standings = await asyncio.to_thread(standings, found, since)  # of thousands of labels

    async def _step(self, standing: Standing) -> bool:
        """Did it take one?"""
        most_wrong = self._rates.get(standing.scope) if OF in standing.scope else self.most_wrong
        if most_wrong is None:  # nobody has asked under that budget since the start
            return False
        stance = self._stances.get(standing.scope, Stance(standing.scope))
        after = stepped(stance, standing, Rule(most_wrong, WINDOW), self._estimated)
        if after is stance:
            return False
        await self._store.take(after)
        self._stances[after.scope] = after
        if after.level < stance.level:
            self._events.note("semantic_relaxed", scope=after.scope, step=after.level)
            return True
        event = "semantic_off" if after.level == OFF else "semantic_tightened"
        reason = proof(standing, most_wrong)
        self._events.note(event, scope=after.scope, step=after.level, reported=standing.reported, reason=reason)
        return True

    async def flush(self) -> None:
        """Write what waits. Raises `StoreDown`; then it waits on. It goes on where its caller does not wait for it any more."""
        flushing = asyncio.create_task(self._flush())
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushing.discard)
        await asyncio.shield(flushing)  # what is on the disk is not to be written once more

    async def _flush(self) -> None:
        async with self._one_flush:
            while self._waiting or self._counts:
                lot, counted = self._waiting[:AT_ONCE], list(self._counts.items())[:AT_ONCE]
                taken = {place: count.copy() for place, count in counted}
                counts = [Count(hour, scope, seen.total(), seen[True]) for (hour, scope), seen in taken.items()]
                await self._store.keep(lot, counts)
                del self._waiting[: len(lot)]
                for place, seen in taken.items():
                    self._counts[place] -= seen
                    if not self._counts[place]:
                        del self._counts[place]
            self._warned.clear()

    async def close(self) -> None:
        """Write what waits, if that can be."""
        running = [task for task in (self._writing, self._following) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with suppress(StoreDown):
            await self.flush()

    def _write(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        try:
            while self._waiting or self._counts:
                await asyncio.sleep(PAUSE)
                await self.flush()
                if self._clock() - self._estimated >= FRESH:
                    await self.estimate()
        except StoreDown as exc:
            self._warn("evidence_waits", str(exc))
        finally:
            self._writing = None

    def _warn(self, event: str, reason: str) -> None:
        """Once, until it works again."""
        if event not in self._warned:
            self._warned.add(event)
            self._events.note(event, reason=reason)

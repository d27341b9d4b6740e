"""Lessons on their way to all nodes and from them, so that each learns from what any of them sees.

A lesson is taught to nobody before it has its number: what is told here comes back with what others tell, and every learner of a
realm is taught the same, in the same order. What follows from it is worked out by one node (`claim`), and read by the others.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol
from uuid import uuid4

import msgspec

from sentinel_gateway.core.calibration import Taught
from sentinel_gateway.errors import StoreDown, place_of
from sentinel_gateway.ports import Clock, Events, LessonStore, Told

PAUSE: Final = 0.5
"""Seconds from one exchange to the next."""
WAITING: Final = 10_000
"""Lessons that wait to be told at most; what comes beyond is lost."""
AT_ONCE: Final = 500
"""In one write, and in one read."""
IN_ONE_GO: Final = 20
"""Lessons that are taught before others have their turn: some 0.3 ms."""
TURN: Final = 60.0
"""Seconds after which another node works out what follows, if the one that has claimed it is gone."""
CUT_OFF: Final = 1_800.0
"""Seconds without an exchange after which what was missed may be gone: everything is brought back."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Taught).decode


class Hearer(Protocol):
    """Who is taught."""

    def hear(self, realm: str, number: int, taught: Taught, /) -> None:
        """A lesson, in the order of their numbers."""
        ...


class Pupil(Hearer, Protocol):
    """Who is taught what all nodes tell."""

    def renew(self, realm: str) -> None:
        """Another node has kept what it made of the lessons."""
        ...

    def lose(self) -> None:
        """Some lessons may have been missed: what is in memory is worth nothing."""
        ...


class Exchange:
    """Tells and hears. `node` is our name. To be closed."""

    def __init__(self, store: LessonStore, node: str, clock: Clock, events: Events) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._events = events
        self._waiting: list[tuple[str, str, bytes]] = []
        self._position: int | None = None
        """The number of the last lesson that was heard; None: not one."""
        self._kept: dict[str, float] = {}
        self._heard = 0.0
        self._running: asyncio.Task[None] | None = None
        self._warned: set[str] = set()
        """Kinds of trouble that were told: reasons may take turns."""

    def __repr__(self) -> str:
        return f"<Exchange {len(self._waiting)} waiting, heard {self._position}, {self._store!r}>"

    def tell(self, realm: str, taught: Taught) -> None:
        """Take it for all nodes, this one among them; never blocks, never raises."""
        if len(self._waiting) < WAITING:
            self._waiting.append((uuid4().hex, realm, _encode(taught)))
        else:
            self._warn("room", "too much waits to be told")

    async def open(self, pupil: Pupil) -> None:
        """From now on, hear what is told."""
        with suppress(StoreDown):
            await self._hear(pupil)
        self._running = asyncio.create_task(self._run(pupil))

    async def catch_up(self, realm: str, since: int, pupil: Hearer) -> int:
        """Hear what was told of a realm after that number; the number up to which all is heard, also by who follows."""
        while True:
            news = await self._store.of(realm, since, AT_ONCE)
            await self._teach(news.lessons, pupil)
            since = news.lessons[-1].number if len(news.lessons) == AT_ONCE else max(since, news.last)
            if since >= (self._position or 0) and len(news.lessons) < AT_ONCE:
                return since

    async def claim(self, realm: str) -> bool:
        """Is it this node that works out what follows from the realm's lessons?"""
        try:
            return await self._store.claim(realm, self._node, self._clock(), TURN)
        except StoreDown:
            return False

    async def kept(self, realm: str, lesson: int, at: float) -> None:
        """What follows from the lessons up to that number was kept then, by this node."""
        self._kept[realm] = at
        with suppress(StoreDown):
            await self._store.learned(realm, lesson, at)

    async def close(self) -> None:
        """Tell what waits, if that can be."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        with suppress(StoreDown):
            await self._tell()

    async def _run(self, pupil: Pupil) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            try:
                await self._tell()
                while await self._hear(pupil):
                    pass
                self._warned.clear()
            except StoreDown as exc:
                self._warn("store", str(exc))
            except Exception as exc:  # noqa: BLE001 - broad: beside the path nobody else would hear of it, and it has to go on
                self._events.note("evidence_failed", error=type(exc).__name__, at=place_of(exc))

    async def _tell(self) -> None:
        while lot := self._waiting[:AT_ONCE]:
            await self._store.tell(lot, self._clock())
            del self._waiting[: len(lot)]

    async def _hear(self, pupil: Pupil) -> bool:
        """Is there more?"""
        now, position = self._clock(), self._position
        news = await self._store.news(position, AT_ONCE)
        if position is None or news.last < position or now - self._heard > CUT_OFF:
            self._position, self._kept = news.last, dict(news.kept)
            pupil.lose()
        else:
            await self._teach(news.lessons, pupil, follows=True)
            for realm, at in news.kept.items():
                if self._kept.get(realm) != at:
                    self._kept[realm] = at
                    pupil.renew(realm)
        self._heard = now
        return len(news.lessons) == AT_ONCE

    async def _teach(self, lessons: Sequence[Told], pupil: Hearer, *, follows: bool = False) -> None:
        for place, told in enumerate(lessons, 1):
            if follows:
                self._position = told.number
            self._teach_one(told, pupil)
            if not place % IN_ONE_GO:
                await asyncio.sleep(0)

    def _teach_one(self, told: Told, pupil: Hearer) -> None:
        try:
            pupil.hear(told.realm, told.number, _decode(told.lesson))
        except msgspec.DecodeError:  # of a newer Sentinel
            pass
        except Exception as exc:  # noqa: BLE001 - broad: a lesson that a learner trips over keeps none of the later ones away
            self._events.note("evidence_failed", error=type(exc).__name__, at=place_of(exc))

    def _warn(self, kind: str, reason: str) -> None:
        """Once, until it works again."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._events.note("learning_waits", reason=reason)

"""The past, added up by stretches of time: behind `Windows`, on a thread and a connection of its own, beside the event loop.

What hours and days that are over came to is there (`rollups.py`); rows are added up for the rest, in their order, some hours at
a time. What was read of a stretch is believed for a tenth of its age, because the older it is, the less still comes late; so who
looks again reads the last hours only, and who asked for more than can be read in time comes further the next time. What took
long to read, such as an hour under way with a million rows, is believed for many times as long, however new it is: those who
look most often take no core from those who ask models.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import structs

from sentinel_gateway.core.alerting.figures import Served
from sentinel_gateway.core.experiments import Tally
from sentinel_gateway.core.stretches import Share, Stretch, runs
from sentinel_gateway.core.windows import Window
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger.under_way import DAY, HOUR, LONG, UnderWay, rest
from sentinel_gateway.ports.ledger import NEVER, Asked, By, KeyUse, Settled, Told, Tried, Wanted

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sentinel_gateway.ledger.rollups import Rows
    from sentinel_gateway.ledger.sql import Database

SPANS: Final = frozenset({300, HOUR, DAY})
STRETCHES: Final = SPANS | {60, 900}
AT_ONCE: Final = DAY
"""Seconds that one question to the database is about, at most."""
BELIEVED: Final = 0.1
"""Of its age is how long what was read of a stretch is believed."""
PATIENCE: Final = 20.0
"""Seconds that somebody waits."""
LATE: Final = 1.05
"""By how much longer, for a question that was begun in time."""
INTERRUPT_AGAIN: Final = 0.05
INTERRUPTS: Final = 20
INTERRUPT_TIMEOUT: Final = 1.0
"""Seconds that PostgreSQL has to take it."""
MOST_KEPT: Final = 20_000
"""Windows that are kept in memory, some 600 bytes each."""

Item = Window | KeyUse | Stretch | Served | Share
T = TypeVar("T")
ItemT = TypeVar("ItemT", Window, KeyUse, Stretch, Served, Share)
WantedT = TypeVar("WantedT", Wanted, Asked)
Question = Callable[["sa.Connection", int, int], Iterable[tuple[int, ItemT]]]
"""Asks a database for what there is from one moment to before another (Unix seconds); each with its moment."""


class History:
    """Behind `Windows`. `open_database` makes the database, or None while there is none; `clock` gives Unix seconds.

    Who has waited for `patience` seconds is told so. `worked` tells how many seconds of the processor its thread has had.
    """

    def __init__(
        self,
        open_database: "Callable[[], Database | None]",
        clock: Callable[[], float],
        *,
        most_kept: int = MOST_KEPT,
        patience: float = PATIENCE,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._open_database = open_database
        self._clock = clock
        self._most_kept = most_kept
        self._patience = patience
        self._worked = worked
        self._under_way = UnderWay(clock, worked)
        self._database: Database | None = None
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._size = 0
        self._asking: sa.Connection | None = None
        self._closing = False
        self._begun = False
        """Is there a row, or the sum of those that were there? There is from then on."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sentinel-past")

    def __repr__(self) -> str:
        return f"<History {self._size} windows in memory>"

    async def hourly(self, since: int, until: int, provider: str | None = None) -> list[Window]:
        """The hours that begin from `since` on and before `until`, in their order."""
        return await self.windows(since, until, seconds=HOUR, provider=provider)

    async def windows(self, since: int, until: int, *, seconds: int, provider: str | None = None) -> list[Window]:
        """The same by stretches of so many seconds. They are shared: not to be changed."""
        if seconds not in SPANS:
            raise ValueError(f"windows are of {sorted(SPANS)} seconds, not of {seconds}")
        question = partial(_windows, seconds=seconds, rows=self._under_way.rows)

        def is_wanted(one: Window) -> bool:
            return since <= one.start < until and provider in {None, one.provider}

        chunk = max(seconds, HOUR)
        return await self._ask(f"windows of {seconds}", question, range(since, until, chunk), is_wanted)

    async def served(self, since: int, until: int) -> list[Served]:
        """Requests to models, by 5 minutes, in their order."""
        return await self._ask("served", _served, range(since, until, HOUR), lambda one: since <= one.start < until)

    async def key_days(self, since: int, until: int, keys: Sequence[str]) -> list[KeyUse]:
        """What these keys did, by day. `keys` are all of a kind: what is read of them is kept, whoever asks."""
        question = partial(_key_days, keys=tuple(keys))
        return await self._ask("key days", question, range(since, until, DAY), lambda one: since <= one.day < until)

    async def calls(self, wanted: Wanted) -> list[Settled]:
        """Calls of providers one by one. The list is shared: not to be changed."""
        place = _whenever(wanted) if wanted.request is None else None
        return await self._in_time(partial(self._list, partial(_calls, wanted=wanted), place))

    async def requests(self, asked: Asked) -> list[Told]:
        """Requests one by one. The list is shared: not to be changed."""
        place = _whenever(asked) if asked.id is None else None  # who looks for one looks again until it is there
        return await self._in_time(partial(self._list, partial(_requests, asked=asked), place))

    async def shares(self, since: int, until: int, *, by: By, tenant: str | None = None) -> list[Share]:
        """What came to each tenant, key or model by day, or to the day. They are shared: not to be changed."""
        question = partial(_shares, by=by, tenant=tenant, rows=self._under_way.rows)
        kind, days = f"shares by {by} of {tenant!r}", range(since, until, DAY)
        return await self._ask(kind, question, days, lambda one: since <= one.day < until)

    async def stretches(self, since: int, until: int, *, seconds: int) -> list[Stretch]:
        """What all requests came to, by stretches of so many seconds. They are shared: not to be changed."""
        if seconds not in STRETCHES:
            raise ValueError(f"stretches are of {sorted(STRETCHES)} seconds, not of {seconds}")
        question = partial(_stretches, seconds=seconds, rows=self._under_way.rows)
        chunks = range(since, until, max(seconds, HOUR))
        return await self._ask(f"stretches of {seconds}", question, chunks, lambda one: since <= one.start < until)

    async def tried(self, since: int, until: int) -> list[Tried]:
        """Which experiments there were, by name."""
        return await self._in_time(partial(self._list, partial(_tried, since=since, until=until)))

    async def tallies(self, experiment: str, since: int, until: int) -> list[Tally]:
        """What each arm of one came to, by name."""
        return await self._in_time(partial(self._list, partial(_tallies, experiment=experiment, since=since, until=until)))

    async def close(self) -> None:
        """End what is being read."""
        self._closing = True
        ending = asyncio.ensure_future(asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True))
        while not ending.done():
            if (asking := self._asking) is not None:
                _interrupt(asking)
            await asyncio.wait({ending}, timeout=INTERRUPT_AGAIN)  # that may have come between two questions
        if self._database is not None:
            await asyncio.to_thread(self._database.close)

    async def _ask(self, kind: str, question: Question[ItemT], when: range, is_wanted: Callable[[ItemT], bool]) -> list[ItemT]:
        """What is wanted of the stretches from the first moment of `when` to before its last, by its step."""
        return await self._in_time(partial(self._read, kind, question, when, is_wanted, end=time.monotonic() + self._patience))

    async def _in_time(self, read: Callable[[], list[T]]) -> list[T]:
        if self._closing:
            raise StoreDown("the ledger is closed")
        turn = self._thread.submit(read)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(turn), self._patience * LATE)
        except TimeoutError as exc:
            await self._end(turn)
            raise StoreDown(f"the ledger was not read within {self._patience:g} s") from exc
        except asyncio.CancelledError:
            await self._end(turn)
            raise

    async def _end(self, turn: Future[Any]) -> None:
        """Nobody waits for it any more; others may for the thread."""
        for _ in range(INTERRUPTS):
            asking = self._asking
            if asking is None or not turn.running():  # in this order: then it is what is asked for this turn
                return
            await asyncio.to_thread(_interrupt, asking)
            await asyncio.sleep(INTERRUPT_AGAIN)  # that may have come between two questions

    # On the thread.

    def _list(self, question: "Callable[[sa.Connection], list[T]]", place: Hashable = None) -> list[T]:
        """With a `place`, what took long to read is believed for a while."""
        with self._connected() as connection:
            if connection is None:
                return []
            self._begun = self._begun or _beginning(connection) != NEVER
            if not self._begun:
                return []
            if (kept := self._believed(place)) is not None:
                return kept
            asked, worked = self._clock(), self._worked()
            found = question(connection)
            if place is not None:
                self._keep(place, _Kept(found, asked + rest(self._worked() - worked)), asked)
            return found

    def _read(
        self, kind: str, question: Question[ItemT], when: range, is_wanted: Callable[[ItemT], bool], *, end: float
    ) -> list[ItemT]:
        with self._connected() as connection:
            if connection is None:
                return []
            chunk = when.step
            chunks = range(max(when.start, _beginning(connection)) // chunk * chunk, when.stop, chunk)
            there = {begin: kept for begin in chunks if (kept := self._believed((kind, begin))) is not None}
            for begin, after in _pieces([begin for begin in chunks if begin not in there], chunk, self._clock()):
                if self._closing:
                    raise StoreDown("the ledger is closed")
                if time.monotonic() > end:
                    raise StoreDown(f"the ledger was not read within {self._patience:g} s")
                there |= self._fetch(kind, question(connection, begin, after), range(begin, after, chunk))
        return [item for begin in chunks for item in there[begin] if is_wanted(item)]

    @contextmanager
    def _connected(self) -> Iterator["sa.Connection | None"]:
        if self._database is None:
            self._database = self._open_database()
        if self._database is None:
            yield None
            return
        with self._database.reading() as connection:
            self._asking = connection
            try:
                yield connection
            finally:
                self._asking = None

    def _believed(self, place: Hashable) -> list[Any] | None:
        kept = self._kept.get(place)
        if kept is None or self._clock() > kept.until:
            return None
        self._kept.move_to_end(place)
        return kept.items

    def _fetch(self, kind: str, found: Iterable[tuple[int, ItemT]], chunks: range) -> dict[int, list[ItemT]]:
        """What was found, by the stretch that it is of; kept for as long as it is believed."""
        asked, worked = self._clock(), self._worked()
        there: dict[int, list[ItemT]] = {begin: [] for begin in chunks}
        for moment, item in found:
            there[moment // chunks.step * chunks.step].append(item)
        took = self._worked() - worked
        if took > LONG and chunks.stop > asked:
            self._under_way.took_long()
        for begin, items in there.items():
            age = asked - begin - chunks.step
            self._keep((kind, begin), _Kept(items, asked + max(BELIEVED * age, rest(took))), asked)
        return there

    def _keep(self, place: Hashable, kept: "_Kept", asked: float) -> None:
        if kept.until <= asked:
            return
        before = self._kept.pop(place, None)
        self._size += kept.size - (0 if before is None else before.size)
        self._kept[place] = kept
        while self._size > self._most_kept:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size


def _pieces(missing: Sequence[int], chunk: int, now: float) -> list[tuple[int, int]]:
    """From where to where to read at once: what is under way apart from what is over, since it alone is weighed."""
    over = [begin for begin in missing if begin + chunk <= now]
    return [*runs(over, chunk, AT_ONCE), *((begin, begin + chunk) for begin in missing[len(over) :])]


def _whenever(asked: WantedT) -> WantedT:
    """The same question, at whatever moment it is asked."""
    return structs.replace(asked, since=asked.since - asked.until, until=0)


class _Kept(msgspec.Struct, frozen=True):
    """What was read, and until when that is believed, in Unix seconds."""

    items: list[Any]
    until: float

    @property
    def size(self) -> int:
        """In windows: that there was nothing is kept as well."""
        return max(1, len(self.items))


def _windows(connection: "sa.Connection", since: int, until: int, *, seconds: int, rows: "Rows") -> Iterator[tuple[int, Window]]:
    from sentinel_gateway.ledger import rollups  # noqa: PLC0415 - SQLAlchemy is heavy, and only who looks back needs it here

    for one in rollups.told(connection, rollups.WINDOWS, rollups.Span(since, until, seconds), rows):
        yield one.start, one


def _served(connection: "sa.Connection", since: int, until: int) -> Iterator[tuple[int, Served]]:
    from sentinel_gateway.ledger import questions  # noqa: PLC0415 - as above

    return questions.served(connection, since, until)


def _key_days(connection: "sa.Connection", since: int, until: int, *, keys: Sequence[str]) -> Iterator[tuple[int, KeyUse]]:
    from sentinel_gateway.ledger import questions  # noqa: PLC0415 - as above

    return questions.key_days(connection, since, until, keys=keys)


def _calls(connection: "sa.Connection", *, wanted: Wanted) -> list[Settled]:
    from sentinel_gateway.ledger import questions  # noqa: PLC0415 - as above

    return questions.calls(connection, wanted)


def _requests(connection: "sa.Connection", *, asked: Asked) -> list[Told]:
    from sentinel_gateway.ledger import stretches  # noqa: PLC0415 - as above

    return stretches.listed(connection, asked)


def _shares(
    connection: "sa.Connection", since: int, until: int, *, by: By, tenant: str | None, rows: "Rows"
) -> Iterator[tuple[int, Share]]:
    from sentinel_gateway.ledger import rollups  # noqa: PLC0415 - as above

    found: dict[tuple[int, str], Share] = {}
    for part in rollups.told(connection, rollups.PARTS, rollups.Span(since, until, DAY), rows):
        if tenant is None or part.tenant == tenant:
            place = part.start, _date(part.start) if by == "day" else getattr(part, by)
            found.setdefault(place, Share(*place)).add(part)
    yield from ((one.day, one) for one in found.values())


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}"


def _stretches(
    connection: "sa.Connection", since: int, until: int, *, seconds: int, rows: "Rows"
) -> Iterator[tuple[int, Stretch]]:
    from sentinel_gateway.ledger import rollups  # noqa: PLC0415 - as above

    for one in rollups.told(connection, rollups.STRETCHES, rollups.Span(since, until, seconds), rows):
        yield one.start, one


def _tried(connection: "sa.Connection", *, since: int, until: int) -> list[Tried]:
    from sentinel_gateway.ledger import trials  # noqa: PLC0415 - as above

    return trials.tried(connection, since, until)


def _tallies(connection: "sa.Connection", *, experiment: str, since: int, until: int) -> list[Tally]:
    from sentinel_gateway.ledger import trials  # noqa: PLC0415 - as above

    return trials.tallies(connection, experiment, since, until)


def _beginning(connection: "sa.Connection") -> int:
    from sentinel_gateway.ledger import questions  # noqa: PLC0415 - as above

    return questions.beginning(connection)


def _interrupt(connection: "sa.Connection") -> None:
    """End what it is asked, from another thread."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above

    with suppress(SQLAlchemyError, connection.dialect.loaded_dbapi.Error):  # it has just ended by itself
        raw: Any = connection.connection.driver_connection
        if raw is not None:
            raw.cancel_safe(timeout=INTERRUPT_TIMEOUT) if hasattr(raw, "cancel_safe") else raw.interrupt()

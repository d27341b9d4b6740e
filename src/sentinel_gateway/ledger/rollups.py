"""Hours and days that are over, added up once: a long past is told by what they came to, and by the rows of the rest.

A stretch that is over is *closed*: what its rows come to is kept beside them. Whoever changes rows of it opens it again in the
same transaction, and it is closed anew. So nothing is ever added to a sum or taken away from one; what is told is what the rows
tell, and a stretch that is not closed is only slower to read.

On PostgreSQL, where several write, who changes rows holds a lock with others from before he looks what is closed to the end of
his transaction; who begins to close a stretch holds it alone for an instant. So either he sees their rows, or they see that he
has begun, and undo it. He never waits for it, as all others would then wait behind him: for a node that was frozen in the midst
of a transaction, for one.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sentinel_gateway.core.stretches import Part, Stretch, runs
from sentinel_gateway.core.windows import MICROS, Window
from sentinel_gateway.ledger import questions, stretches, sums
from sentinel_gateway.ledger.tables import rollups
from sentinel_gateway.ports.ledger import Past

HOUR: Final = 3600
DAY: Final = 86_400
SETTLED: Final = 900
"""Seconds after its end that a stretch is closed: most of what is late is there by then."""
KEPT: Final = {HOUR: 5 * DAY, DAY: 92 * DAY}
"""For how long what hours and days came to is kept: longer than anybody asks for it."""
ABANDONED: Final = 600
"""Seconds after which somebody who began to close a stretch is held to have died."""
ROLLUP_LOCK: Final = 5_063_287_144_199
"""Of PostgreSQL."""
FROZEN: Final = "10s"
"""After which PostgreSQL ends a transaction that holds this lock, and says nothing."""
AT_A_TIME: Final = 500
ALL_TIME: Final = 1 << 62
"""Seconds of a stretch that holds all others."""

Item = Window | Stretch | Part


class Family(NamedTuple):
    """Items of a kind. `names` are what tells them apart within a stretch; `bound` makes fewer of too many.

    `rows` makes them of the rows between two moments (Unix seconds), by stretches of so many seconds; `taken` of what retention
    took of a day. `hour` and `days` are how long the stretches are whose items are kept of an hour, and of a day.
    """

    name: str
    item: type[Any]
    names: Callable[[Any], tuple[str, ...]]
    rows: Callable[[sa.Connection, int, int, int], Sequence[Any]]
    taken: Callable[[sa.Connection, int], Sequence[Any]]
    hour: int
    days: tuple[int, ...]
    bound: Callable[[Iterable[Any]], list[Any]] = list

    def levels(self) -> list["Level"]:
        """What is kept of it, hours first."""
        return [Level(self, HOUR, self.hour), *(Level(self, DAY, seconds) for seconds in self.days)]


class Level(NamedTuple):
    """What is kept of a family: of each `length` (an hour or a day, in seconds), items by stretches of so many seconds."""

    family: Family
    length: int
    seconds: int

    @property
    def kind(self) -> str:
        """Its name in the table. Another form of the items needs another name."""
        return f"{self.family.name} by {self.seconds} of {self.length}"


WINDOWS: Final = Family(
    "calls",
    Window,
    attrgetter("provider", "model"),
    questions.windows,
    questions.windows_taken,
    hour=300,
    days=(HOUR, DAY),
    bound=questions.folded,
)
STRETCHES: Final = Family(
    "requests", Stretch, lambda _: (), stretches.stretches, stretches.stretches_taken, hour=900, days=(HOUR, DAY)
)
PARTS: Final = Family(
    "shares", Part, attrgetter("tenant", "key", "model"), stretches.parts, stretches.parts_taken, hour=DAY, days=(DAY,)
)
TALLIES: Final = Family(
    "sums", sums.Tally, attrgetter("kind", "model", "route", "outcome"), sums.tallies, sums.tallies_taken, hour=DAY, days=(DAY,)
)
LEVELS: Final = [level for family in (WINDOWS, STRETCHES, PARTS, TALLIES) for level in family.levels()]
OF_HOURS: Final = [level.kind for level in LEVELS if level.length == HOUR]
_LENGTH: Final = sa.case((rollups.c.kind.in_(OF_HOURS), HOUR * MICROS), else_=DAY * MICROS)
_LATEST: Final = sa.select(sa.func.max(rollups.c.start + _LENGTH))
"""The end of all that is closed. Made once: to make it takes longer than to ask it."""


class Span(NamedTuple):
    """A time from one moment to before another (Unix seconds, whole hours), told by stretches of so many seconds."""

    since: int
    until: int
    seconds: int


Rows = Callable[[Family, sa.Connection, Span], Sequence[Any]]
"""What the rows of some hours come to."""


def rows_of(family: Family, connection: sa.Connection, span: Span) -> Sequence[Any]:
    """The same, read now."""
    return family.rows(connection, *span)


def told(connection: sa.Connection, family: Family, span: Span, rows: Rows = rows_of) -> list[Any]:
    """The items of that time in their order. By days it is one of whole days, which also have what retention has taken."""
    if span.seconds == DAY and (span.since % DAY or span.until % DAY):
        raise ValueError(f"{span} cuts a day, of which only the whole is kept")
    days = _closed(connection, family, DAY, span)
    found = Sum(family, span.seconds)
    for day in range(span.since // DAY * DAY, span.until, DAY):
        first, end = max(day, span.since), min(day + DAY, span.until)
        if day in days:
            found.add(one for one in days[day] if first <= one.start < end)
            continue
        found.add(by_hours(connection, family, Span(first, end, span.seconds), rows))
        if span.seconds == DAY:
            found.add(family.taken(connection, day))
    return found.items()


def by_hours(connection: sa.Connection, family: Family, span: Span, rows: Rows = rows_of) -> list[Any]:
    """The same of a part of a day, by hours that are closed and by rows."""
    hours = _closed(connection, family, HOUR, span)
    found = Sum(family, span.seconds)
    for items in hours.values():
        found.add(items)
    opened = [hour for hour in range(span.since, span.until, HOUR) if hour not in hours]
    for begin, after in runs(opened, HOUR, DAY):
        found.add(rows(family, connection, Span(begin, after, span.seconds)))
    return found.items()


class Sum:
    """Items of a family put together, by stretches of so many seconds. What it is given is its own from then on."""

    def __init__(self, family: Family, seconds: int) -> None:
        self._family = family
        self._seconds = seconds
        self._found: dict[tuple[Any, ...], Any] = {}

    def __repr__(self) -> str:
        return f"<Sum of {self._family.name}: {len(self._found)}>"

    def add(self, items: Iterable[Any]) -> None:
        """Count these as well."""
        for item in items:
            place = item.start // self._seconds * self._seconds, *self._family.names(item)
            one = self._found.get(place)
            if one is not None:
                one.add(item)
            elif item.start == place[0]:
                self._found[place] = item
            else:
                made = self._found[place] = self._family.item(*place)
                made.add(item)

    def items(self) -> list[Any]:
        """What they come to."""
        return sorted(self._family.bound(self._found.values()), key=attrgetter("start"))


def _closed(connection: sa.Connection, family: Family, length: int, span: Span) -> dict[int, list[Any]]:
    """The closed hours or days that touch this time, if what is kept of them is fine enough."""
    fine = [level for level in family.levels() if level.length == length and span.seconds % level.seconds == 0]
    if not fine:
        return {}
    level = max(fine, key=attrgetter("seconds"))
    moments = questions.bounds(span.since // length * length, span.until)
    found, decoder = connection.execute(_kept(level.kind), moments), _decoder(family)
    return {int(start) // MICROS: decoder.decode(bytes(items)) for start, items in found}


@cache
def _kept(kind: str) -> sa.Select[Any]:
    kept = sa.select(rollups.c.start, rollups.c["items"]).where(rollups.c.kind == kind, rollups.c["items"].is_not(None))
    return kept.where(questions.within(rollups.c.start))


@cache
def _decoder(family: Family) -> msgspec.msgpack.Decoder[list[Any]]:
    return msgspec.msgpack.Decoder(list[family.item])  # type: ignore[name-defined]


def past(connection: sa.Connection, before: int) -> Past:
    """What everything before that moment (microseconds since 1970) came to."""
    moment = before // MICROS
    hour, today = moment // HOUR * HOUR, moment // DAY * DAY
    first = min(today, max(today - KEPT[DAY] + DAY, questions.beginning(connection) // DAY * DAY))  # before it, no day is closed
    found = Sum(TALLIES, ALL_TIME)
    found.add(sums.old_tallies(connection, first))
    found.add(told(connection, TALLIES, Span(first, today, DAY)))
    found.add(by_hours(connection, TALLIES, Span(today, hour, DAY)))  # that day may be over by now, and closed as a whole
    found.add(sums.tallies_of(connection, hour * MICROS, before))
    found.add(sums.tallies_taken(connection, today))
    return sums.past(found.items())


# --- closing and opening ---


def missing(connection: sa.Connection, now: int) -> list[tuple[Level, int]]:
    """What is over and not closed, with its start: hours first, the latest first."""
    edge = now - SETTLED
    first = {HOUR: questions.first_row(connection), DAY: questions.beginning(connection)}  # retention lets go of hours
    done = {(int(start), kind) for start, kind in connection.execute(_done())}
    found = []
    for length, kept in KEPT.items():
        begin = max(first[length], edge - kept) // length * length
        ended = edge // length * length
        found += [
            (level, start)
            for start in range(ended - length, begin - length, -length)
            for level in LEVELS
            if level.length == length and (start * MICROS, level.kind) not in done
        ]
    return found


def _done() -> sa.Select[Any]:
    return sa.select(rollups.c.start, rollups.c.kind).where(rollups.c["items"].is_not(None))


def begin(connection: sa.Connection, level: Level, start: int, now: int) -> int | None:
    """Begin to close a stretch, in a transaction of its own: what to close it by.

    None: it is closed, another is about it, or somebody is changing rows just now.
    """
    if connection.dialect.name == "postgresql" and not _locked(connection, sa.func.pg_try_advisory_xact_lock):
        return None
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(rollups)
    begun = now * MICROS + secrets.randbelow(MICROS)  # no two are the same
    statement = insert.values(start=start * MICROS, kind=level.kind, begun=begun)
    free = rollups.c["items"].is_(None) & (rollups.c.begun < (now - ABANDONED) * MICROS)
    again = statement.on_conflict_do_update(
        index_elements=[rollups.c.start, rollups.c.kind], set_={"begun": statement.excluded.begun}, where=free
    )
    placed: int | None = connection.scalar(again.returning(rollups.c.begun))
    return placed


def close(connection: sa.Connection, level: Level, start: int, begun: int, items: Sequence[Any]) -> bool:
    """Keep what was added up since `begin`; False if rows have changed meanwhile."""
    mine = (rollups.c.start == start * MICROS) & (rollups.c.kind == level.kind) & (rollups.c.begun == begun)
    changed = sa.update(rollups).where(mine, rollups.c["items"].is_(None)).values(items=msgspec.msgpack.encode(items))
    return connection.execute(changed).rowcount == 1


def forget(connection: sa.Connection, now: int) -> None:
    """Let go of what nobody asks for any more."""
    for length, kept in KEPT.items():
        kinds = [level.kind for level in LEVELS if level.length == length]
        old = (rollups.c.start < (now - SETTLED - kept) // length * length * MICROS) & rollups.c.kind.in_(kinds)
        connection.execute(sa.delete(rollups).where(old))
    connection.execute(sa.delete(rollups).where(rollups.c.kind.not_in([level.kind for level in LEVELS])))


def open_again(connection: sa.Connection, moments: Sequence[int]) -> None:
    """Of a transaction that has put in rows of these moments (microseconds): what they are of is closed no more."""
    _with_others(connection)
    latest = connection.scalar(_LATEST)
    if latest is None or min(moments) >= latest:
        return
    starts = sorted({moment // (length * MICROS) * length * MICROS for moment in moments for length in KEPT})
    for at in range(0, len(starts), AT_A_TIME):
        connection.execute(sa.delete(rollups).where(rollups.c.start.in_(starts[at : at + AT_A_TIME])))


def rows_taken(connection: sa.Connection, until: int) -> None:
    """Of a transaction in which retention takes rows up to this moment: hours are not told of them any more, days as before."""
    _with_others(connection)
    hours = rollups.c.kind.in_(OF_HOURS)
    connection.execute(sa.delete(rollups).where(rollups.c.start <= until, hours | rollups.c["items"].is_(None)))


def _with_others(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        _locked(connection, sa.func.pg_advisory_xact_lock_shared)


def _locked(connection: sa.Connection, how: Callable[[int], sa.ColumnElement[Any]]) -> Any:
    """What this says of the lock, which is held to the end of the transaction, by a living node only."""
    limit = sa.func.set_config("idle_in_transaction_session_timeout", FROZEN, sa.true())
    return connection.scalar(sa.select(how(ROLLUP_LOCK), limit))

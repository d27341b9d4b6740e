"""What is asked of the tables about stretches of time, and how rows become windows. Of `windows.py`'s thread.

The rows of a stretch stand together (their keys begin with the moment), so each question is one walk over them. What is asked
time and again is put together once, and given its moments each time: to build a statement takes longer than a short answer.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from sys import intern
from typing import Any, Final

import sqlalchemy as sa

from sentinel_gateway.core.alerting.figures import BIN, Served
from sentinel_gateway.core.windows import BOUNDS, MICROS, OTHER, Series, Window
from sentinel_gateway.errors import BadRequest, InternalError, NotCached
from sentinel_gateway.ledger.tables import DAY, attempts, days, requests, rollups
from sentinel_gateway.ports.ledger import NEVER, Intent, KeyUse, Settled, Spent, Wanted

DAY_SECONDS: Final = DAY // MICROS
MOST_SERIES: Final = 256
"""Models that are told apart: callers may name any model of a provider. All others of a provider are `other`."""
MOST_MET: Final = 4096
"""The same while rows are read, before it is known which are the most used."""
AT_A_TIME: Final = 5000
LIMITED: Final = ("rate_limit_exceeded", "insufficient_quota")
"""The codes of requests that met a limit: ours, or a provider's."""
TOO_MANY: Final = 429
SUMS: Final = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost")


def beginning(connection: sa.Connection) -> int:
    """When the first row is of (Unix seconds), kept or added up by day; beyond all time where there is none, or no table yet."""
    if not sa.inspect(connection).has_table(rollups.name):  # of those that are asked here the last that is made
        return NEVER
    return _first(connection, attempts.c.at, requests.c.at, days.c.day)


def first_row(connection: sa.Connection) -> int:
    """The same of what is kept row by row."""
    return _first(connection, attempts.c.at, requests.c.at)


def _first(connection: sa.Connection, *moments: sa.ColumnElement[Any]) -> int:
    found = [row[0] for row in connection.execute(_firsts(*moments)) if row[0] is not None]
    return min(found) // MICROS if found else NEVER


@cache
def _firsts(*moments: sa.ColumnElement[Any]) -> sa.CompoundSelect[Any]:
    return sa.union_all(*(sa.select(sa.func.min(moment)) for moment in moments))


def within(moment: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Is that moment (microseconds) between two that are told when it is asked, as `bounds` of them?"""
    return (moment >= sa.bindparam("since", type_=sa.BigInteger)) & (moment < sa.bindparam("until", type_=sa.BigInteger))


def bounds(since: int, until: int) -> dict[str, int]:
    """Both in Unix seconds."""
    return {"since": since * MICROS, "until": until * MICROS}


def windows(connection: sa.Connection, since: int, until: int, seconds: int) -> list[Window]:
    """The calls of providers whose rows are here, by stretches of so many seconds."""
    return _windows(connection, _calls(seconds), bounds(since, until))


def windows_taken(connection: sa.Connection, day: int) -> list[Window]:
    """Those of a day that retention has taken: they have no latencies."""
    return _windows(connection, _taken(), bounds(day, day + DAY_SECONDS))


def folded(windows: Iterable[Window]) -> list[Window]:
    """The most used models, and all others of a provider in one."""
    met: Counter[Series] = Counter()
    every = list(windows)
    for window in every:
        if window.model != OTHER:
            met[window.series] += window.requests
    if len(met) <= MOST_SERIES:
        return every
    apart = {series for series, _ in met.most_common(MOST_SERIES)}
    found: dict[tuple[int, str, str], Window] = {}
    for window in every:
        series = window.series if window.series in apart else (window.provider, OTHER)
        found.setdefault((window.start, *series), Window(window.start, *series)).add(window)
    return list(found.values())


def _windows(connection: sa.Connection, asked: sa.Select[Any], moments: Mapping[str, int]) -> list[Window]:
    found: dict[tuple[int, str, str], Window] = {}
    met: set[Series] = set()
    for row in connection.execution_options(yield_per=AT_A_TIME).execute(asked, moments):
        series = intern(row.provider), intern(row.model)
        if series not in met and len(met) >= MOST_MET:
            series = series[0], OTHER
        met.add(series)
        key = (int(row.start), *series)
        _count(found.get(key) or found.setdefault(key, Window(*key)), row)
    return folded(found.values())


def served(connection: sa.Connection, since: int, until: int) -> Iterator[tuple[int, Served]]:
    """Requests to models by 5 minutes. One for which nothing was stored, as it asked for no more, has not failed."""
    for number, count, *others in connection.execute(_served(), bounds(since, until)):
        one = Served(int(number) * BIN, int(count), *map(int, others))
        yield one.start, one


@cache
def _served() -> sa.Select[Any]:
    stretch = (requests.c.at // sa.literal_column(str(BIN * MICROS))).label("stretch")
    good, bad = requests.c.status < BadRequest.status, requests.c.status >= InternalError.status
    failed = bad & (requests.c.error != NotCached.code)
    hit = requests.c.outcome.in_(("exact", "semantic"))
    counts = (
        sa.func.sum(sa.case((one, 1), else_=0)) for one in (failed, good & (hit | (requests.c.outcome == "miss")), good & hit)
    )
    return sa.select(stretch, sa.func.count(), *counts).where(within(requests.c.at)).group_by(stretch).order_by(stretch)


def key_days(connection: sa.Connection, since: int, until: int, *, keys: Sequence[str]) -> Iterator[tuple[int, KeyUse]]:
    """What these keys did, by day."""
    day = (requests.c.at - requests.c.at % sa.literal_column(str(DAY))).label("day")
    limited = sa.func.sum(sa.case((_met_ours(), 1), else_=0))
    moments = sa.func.min(requests.c.at), sa.func.max(requests.c.at)
    asked = sa.select(day, requests.c.key, sa.func.count(), limited, *moments)
    asked = asked.where(within(requests.c.at), requests.c.key.in_(keys)).group_by(sa.text("1"), sa.text("2"))
    for row in connection.execute(asked.order_by(sa.text("1"), sa.text("2")), bounds(since, until)):
        at, key, count, met, first, last = row
        use = KeyUse(int(at) // MICROS, key, int(count), int(met), int(first) / MICROS, int(last) / MICROS)
        yield use.day, use


def _met_ours() -> sa.ColumnElement[bool]:
    """A provider's limit is met on the way to it, also where it is known to be met and nobody is asked: that takes time there."""
    return (requests.c.status == TOO_MANY) & requests.c.error.in_(LIMITED) & (requests.c.upstream == 0)


def calls(connection: sa.Connection, wanted: Wanted) -> list[Settled]:
    """Rows as they were written."""
    asked = sa.select(attempts).where(within(attempts.c.at)).limit(wanted.limit)
    if wanted.request is not None:
        asked = asked.where(attempts.c.id == wanted.request)
    if wanted.tenant is not None:
        asked = asked.where(attempts.c.tenant == wanted.tenant)
    latest = [column.desc() for column in attempts.primary_key.columns]
    order = [attempts.c.cost.desc(), *latest] if wanted.dearest else latest
    return [_settled(row) for row in connection.execute(asked.order_by(*order), bounds(wanted.since, wanted.until))]


def _settled(row: Any) -> Settled:
    who = row.tenant, row.key, row.route, row.model, row.provider, row.target
    intent = Intent(row.id, row.number, row.at, *who, stream=row.stream, reserved=row.reserved)
    spent = Spent(**{name: getattr(row, name) for name in Spent.__struct_fields__})
    return Settled(intent, row.ending, spent, row.error, row.duration, row.first_token)


@cache
def _calls(seconds: int) -> sa.Select[Any]:
    """Sums by stretch, model, ending and bucket."""
    length: sa.ColumnElement[int] = sa.literal_column(str(seconds * MICROS))
    answered = attempts.c.ending == sa.literal_column("'answered'")
    each = (
        sa.select(
            (attempts.c.at // length).label("stretch"),
            attempts,
            sa.case((answered, bucket_of(attempts.c.duration)), else_=sa.literal_column("-1")).label("bucket"),
        )
        .where(within(attempts.c.at))
        .subquery()
    )
    keys = each.c.stretch, each.c.provider, each.c.target, each.c.ending, each.c.bucket
    sums = [sa.func.count().label("requests"), *(sa.func.sum(each.c[name]).label(name) for name in SUMS[1:])]
    times = [
        sa.func.sum(each.c.duration).label("latency"),
        sa.func.sum(each.c.first_token).label("first_token"),
        sa.func.sum(sa.case((each.c.first_token > 0, 1), else_=0)).label("streamed"),
    ]
    start = (each.c.stretch * seconds).label("start")
    names = [start, each.c.provider, each.c.target.label("model"), each.c.ending, each.c.bucket]
    return sa.select(*names, *sums, *times).group_by(*keys)


@cache
def _taken() -> sa.Select[Any]:
    """What retention has added up, in the same shape; it keeps no latencies."""
    nothing: sa.ColumnElement[int] = sa.literal_column("0")
    start = (days.c.day // sa.literal_column(str(MICROS))).label("start")
    bucket: sa.ColumnElement[int] = sa.literal_column("-1").label("bucket")
    names = [start, days.c.provider, days.c.target.label("model"), days.c.outcome.label("ending"), bucket]
    kept = zip(SUMS, ("count", *SUMS[1:]), strict=True)
    asked = sa.select(*names, *(sa.func.sum(days.c[name]).label(label) for label, name in kept))
    asked = asked.add_columns(*(nothing.label(name) for name in ("latency", "first_token", "streamed")))
    asked = asked.where(days.c.kind == "attempt", within(days.c.day))
    return asked.group_by(days.c.day, days.c.provider, days.c.target, days.c.outcome)


@cache
def bucket_of(duration: sa.Column[int]) -> sa.ColumnElement[int]:
    """The bucket of a duration: a search by halves, as neither database need have logarithms.

    It is text, as every statement that has it is remembered, and of expressions it would be six hundred.
    """
    return sa.literal_column(_halves(f"{duration.table.name}.{duration.name}", 0, len(BOUNDS)), sa.Integer)


def _halves(name: str, low: int, high: int) -> str:
    if low == high:
        return str(low)
    middle = (low + high) // 2
    return f"CASE WHEN {name} <= {BOUNDS[middle]} THEN {_halves(name, low, middle)} ELSE {_halves(name, middle + 1, high)} END"


def _count(window: Window, row: Any) -> None:
    for name in SUMS:
        setattr(window, name, getattr(window, name) + int(row._mapping[name]))  # noqa: SLF001 - public by its documentation
    window.endings[intern(row.ending)] = window.endings.get(row.ending, 0) + int(row.requests)
    window.streamed += int(row.streamed)
    window.first_token += int(row.first_token)
    if row.bucket >= 0:
        window.latency += int(row.latency)
        window.answered_tokens += int(row.completion_tokens)
        window.buckets[row.bucket] = window.buckets.get(row.bucket, 0) + int(row.requests)

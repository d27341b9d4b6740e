"""What is asked of the tables about requests: one by one, and added up by stretches of time. Of `windows.py`'s thread."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from sentinel_gateway.core.stretches import Part, Stretch
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.ledger.questions import DAY_SECONDS, bounds, within
from sentinel_gateway.ledger.sums import FAILED, FAILED_FROM, HITS, UNANSWERED
from sentinel_gateway.ledger.tables import attempts, days, requests
from sentinel_gateway.ports.ledger import Asked, Handled, Told

NONE: Final = "none"
_REQUEST: Final = sa.literal_column("'request'", sa.Text)
_ATTEMPT: Final = sa.literal_column("'attempt'", sa.Text)
_NO_OUTCOME: Final = sa.literal_column("''", sa.Text)


def stretches(connection: sa.Connection, since: int, until: int, seconds: int) -> list[Stretch]:
    """What the rows that are here come to, by stretches of so many seconds."""
    return _stretches(connection, _rows(seconds), bounds(since, until), seconds)


def stretches_taken(connection: sa.Connection, day: int) -> list[Stretch]:
    """What retention has taken of a day."""
    return _stretches(connection, _taken(), bounds(day, day + DAY_SECONDS), DAY_SECONDS)


def _stretches(connection: sa.Connection, asked: Any, moments: Mapping[str, int], seconds: int) -> list[Stretch]:
    """Requests that never asked the cache are left out."""
    found: dict[int, Stretch] = {}
    for row in connection.execute(asked, moments):
        start = int(row.stretch) * seconds
        one = found.setdefault(start, Stretch(start))
        if row.kind == "attempt":
            one.spent += int(row.money)
            one.tokens_used += int(row.tokens)
        elif row.outcome != NONE:
            one.count(row.outcome, int(row.requests))
            one.saved += int(row.money)
            one.tokens_saved += int(row.tokens) if row.outcome in HITS else 0
    return list(found.values())


def parts(connection: sa.Connection, since: int, until: int, seconds: int) -> list[Part]:
    """What came to each key of a tenant for each model, by the rows that are here. `seconds` are those of a day."""
    return _parts(connection, (requests, attempts), bounds(since, until), seconds)


def parts_taken(connection: sa.Connection, day: int) -> list[Part]:
    """What retention has taken of a day."""
    return _parts(connection, (days,), bounds(day, day + DAY_SECONDS), DAY_SECONDS)


@cache
def _parts_of(table: sa.Table) -> sa.Select[Any]:
    """Its rows added up by the database."""
    moment = days.c.day if table is days else table.c.at
    kind, money, outcome = {
        requests: (_REQUEST, requests.c.saved, sa.case((_failed(), FAILED), else_=requests.c.outcome)),
        attempts: (_ATTEMPT, attempts.c.cost, _NO_OUTCOME),
        days: (days.c.kind, sa.case((days.c.kind == "attempt", days.c.cost), else_=days.c.saved), days.c.outcome),
    }[table]
    each = sa.select(
        (moment // sa.literal_column(str(DAY_SECONDS * MICROS))).label("day"),
        table.c.tenant,
        table.c.key,
        table.c.model,
        kind.label("kind"),
        outcome.label("outcome"),
        (days.c["count"] if table is days else sa.literal_column("1")).label("times"),
        (table.c.prompt_tokens + table.c.completion_tokens).label("tokens"),
        money.label("money"),
    )
    rows = each.where(within(moment)).subquery()
    keys = [rows.c[name] for name in ("day", "tenant", "key", "model", "kind", "outcome")]
    sums = (sa.func.sum(rows.c[name]).label(name) for name in ("times", "tokens", "money"))
    return sa.select(*keys, *sums).group_by(*keys)


def _parts(connection: sa.Connection, tables: Sequence[sa.Table], moments: Mapping[str, int], seconds: int) -> list[Part]:
    """What these tables come to by day, tenant, key and model."""
    found: dict[tuple[int, str, str, str], Part] = {}
    for table in tables:
        for row in connection.execute(_parts_of(table), moments):
            if row.kind == "request" and row.outcome in UNANSWERED:
                continue
            place = int(row.day) * seconds, row.tenant, row.key, row.model
            _count(found.get(place) or found.setdefault(place, Part(*place)), row)
    return list(found.values())


def _count(part: Part, row: Any) -> None:
    if row.kind == "attempt":
        part.calls += int(row.times)
        part.tokens += int(row.tokens)
        part.spent += int(row.money)
        return
    part.requests += int(row.times)
    part.hits += int(row.times) if row.outcome in HITS else 0
    part.saved += int(row.money)


def listed(connection: sa.Connection, asked: Asked) -> list[Told]:
    """The latest first."""
    chosen = sa.select(requests).where(*_wanted(asked)).order_by(requests.c.at.desc(), requests.c.id.desc()).limit(asked.limit)
    rows = [_handled(row) for row in connection.execute(chosen)]
    if not rows:
        return []
    costs = (
        sa.select(attempts.c.id, sa.func.sum(attempts.c.cost))
        .where(attempts.c.at >= min(row.at for row in rows))  # no call is older than its request
        .where(attempts.c.id.in_([row.id for row in rows if row.attempts]))
        .group_by(attempts.c.id)
    )
    spent = {id_: int(cost) for id_, cost in connection.execute(costs)}
    return [Told(row, spent.get(row.id, 0)) for row in rows]


def _wanted(asked: Asked) -> Iterator[sa.ColumnElement[bool]]:
    yield requests.c.at >= asked.since * MICROS
    yield requests.c.at < asked.until * MICROS
    if asked.id is None:
        yield requests.c.outcome != NONE
    else:
        yield sa.or_(requests.c.id == asked.id, requests.c.request_id == asked.id)
    if asked.tenant is not None:
        yield requests.c.tenant == asked.tenant
    if asked.outcome is not None:
        yield requests.c.outcome == asked.outcome
    if asked.failed:
        yield _failed()


def _handled(row: Any) -> Handled:
    return Handled(**{name: getattr(row, name) for name in Handled.__struct_fields__})


def _failed() -> sa.ColumnElement[bool]:
    return sa.or_(requests.c.status >= FAILED_FROM, requests.c.error != "")


@cache
def _rows(seconds: int) -> sa.CompoundSelect[Any]:
    return sa.union_all(_requests(seconds), _attempts(seconds))


def _requests(seconds: int) -> sa.Select[Any]:
    each = (
        sa.select(
            (requests.c.at // sa.literal_column(str(seconds * MICROS))).label("stretch"),
            sa.case((_failed(), FAILED), else_=requests.c.outcome).label("outcome"),
            requests.c.saved,
            (requests.c.prompt_tokens + requests.c.completion_tokens).label("tokens"),
        )
        .where(within(requests.c.at))
        .subquery()
    )
    return sa.select(
        _REQUEST.label("kind"),
        each.c.stretch,
        each.c.outcome,
        sa.func.count().label("requests"),
        sa.func.sum(each.c.saved).label("money"),
        sa.func.sum(each.c.tokens).label("tokens"),
    ).group_by(each.c.stretch, each.c.outcome)


def _attempts(seconds: int) -> sa.Select[Any]:
    stretch: sa.ColumnElement[int] = sa.literal_column(str(seconds * MICROS))
    each = (
        sa.select(
            (attempts.c.at // stretch).label("stretch"),
            attempts.c.cost,
            (attempts.c.prompt_tokens + attempts.c.completion_tokens).label("tokens"),
        )
        .where(within(attempts.c.at))
        .subquery()
    )
    return sa.select(
        _ATTEMPT,
        each.c.stretch,
        _NO_OUTCOME,
        sa.func.count(),
        sa.func.sum(each.c.cost),
        sa.func.sum(each.c.tokens),
    ).group_by(each.c.stretch)


@cache
def _taken() -> sa.Select[Any]:
    """What retention has added up, in the same shape."""
    money = sa.case((days.c.kind == "attempt", days.c.cost), else_=days.c.saved)
    each = (
        sa.select(
            days.c.kind,
            (days.c.day // sa.literal_column(str(DAY_SECONDS * MICROS))).label("stretch"),
            days.c.outcome,
            days.c["count"],
            money.label("money"),
            (days.c.prompt_tokens + days.c.completion_tokens).label("tokens"),
        )
        .where(within(days.c.day))
        .subquery()
    )
    keys = each.c.kind, each.c.stretch, each.c.outcome
    sums = [
        sa.func.sum(each.c["count"]).label("requests"),
        *(sa.func.sum(each.c[name]).label(name) for name in ("money", "tokens")),
    ]
    return sa.select(*keys, *sums).group_by(*keys)

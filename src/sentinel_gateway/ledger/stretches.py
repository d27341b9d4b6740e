"""What is asked of the tables about requests: one by one, and added up by stretches of time. Of `windows.py`'s thread."""

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from sentinel_gateway.core.stretches import Share, Stretch
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.ledger.questions import DAY_SECONDS
from sentinel_gateway.ledger.sums import FAILED, FAILED_FROM, HITS, UNANSWERED
from sentinel_gateway.ledger.tables import attempts, days, requests
from sentinel_gateway.ports.ledger import Asked, By, Handled, Told

NONE: Final = "none"


def stretches(connection: sa.Connection, since: int, until: int, *, seconds: int) -> Iterator[tuple[int, Stretch]]:
    """By their start; days also have what retention has taken of them. Requests that never asked the cache are left out."""
    found: dict[int, Stretch] = {}
    parts = [_requests(since, until, seconds), _attempts(since, until, seconds)]
    if seconds == DAY_SECONDS:
        parts.append(_taken(since, until))
    for row in connection.execute(sa.union_all(*parts)):
        start = int(row.stretch) * seconds
        one = found.setdefault(start, Stretch(start))
        if row.kind == "attempt":
            one.spent += int(row.money)
            one.tokens_used += int(row.tokens)
        elif row.outcome != NONE:
            one.count(row.outcome, int(row.requests))
            one.saved += int(row.money)
            one.tokens_saved += int(row.tokens) if row.outcome in HITS else 0
    yield from sorted(found.items())


def shares(connection: sa.Connection, since: int, until: int, *, by: By, tenant: str | None) -> Iterator[tuple[int, Share]]:
    """What came to each tenant, key or model, by day; also what retention has taken."""
    found: dict[tuple[int, str], Share] = {}
    for asked in (_shares_of(table, since, until, by, tenant) for table in (requests, attempts, days)):
        for row in connection.execute(asked):
            day = int(row.day) * DAY_SECONDS
            if row.kind == "request" and row.outcome in UNANSWERED:
                continue
            one = found.setdefault((day, row.name), Share(day, row.name))
            if row.kind == "attempt":
                one.calls += int(row.times)
                one.tokens += int(row.tokens)
                one.spent += int(row.money)
            else:
                one.requests += int(row.times)
                one.hits += int(row.times) if row.outcome in HITS else 0
                one.saved += int(row.money)
    for (day, _), one in sorted(found.items()):
        yield day, one


def _shares_of(table: sa.Table, since: int, until: int, by: By, tenant: str | None) -> sa.Select[Any]:
    """Sums of a table by day, name and outcome."""
    moment = table.c.day if table is days else table.c.at
    of_request = sa.case((_failed(), FAILED), else_=requests.c.outcome)
    kinds = {requests: "'request'", attempts: "'attempt'"}
    outcomes = {requests: of_request, attempts: sa.literal_column("''", sa.Text)}
    money = {requests: requests.c.saved, attempts: attempts.c.cost}
    either = sa.case((days.c.kind == "attempt", days.c.cost), else_=days.c.saved)
    each = sa.select(
        (moment // sa.literal_column(str(DAY_SECONDS * MICROS))).label("day"),
        table.c[by].label("name"),
        (days.c.kind if table is days else sa.literal_column(kinds[table], sa.Text)).label("kind"),
        (days.c.outcome if table is days else outcomes[table]).label("outcome"),
        (days.c["count"] if table is days else sa.literal_column("1")).label("times"),
        (table.c.prompt_tokens + table.c.completion_tokens).label("tokens"),
        (either if table is days else money[table]).label("money"),
    ).where(moment >= since * MICROS, moment < until * MICROS)
    if tenant is not None:
        each = each.where(table.c.tenant == tenant)
    rows = each.subquery()
    keys = rows.c.day, rows.c.name, rows.c.kind, rows.c.outcome
    return sa.select(*keys, *(sa.func.sum(rows.c[name]).label(name) for name in ("times", "tokens", "money"))).group_by(*keys)


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


def _requests(since: int, until: int, seconds: int) -> sa.Select[Any]:
    each = (
        sa.select(
            (requests.c.at // sa.literal_column(str(seconds * MICROS))).label("stretch"),
            sa.case((_failed(), FAILED), else_=requests.c.outcome).label("outcome"),
            requests.c.saved,
            (requests.c.prompt_tokens + requests.c.completion_tokens).label("tokens"),
        )
        .where(requests.c.at >= since * MICROS, requests.c.at < until * MICROS)
        .subquery()
    )
    return sa.select(
        sa.literal_column("'request'", sa.Text).label("kind"),
        each.c.stretch,
        each.c.outcome,
        sa.func.count().label("requests"),
        sa.func.sum(each.c.saved).label("money"),
        sa.func.sum(each.c.tokens).label("tokens"),
    ).group_by(each.c.stretch, each.c.outcome)


def _attempts(since: int, until: int, seconds: int) -> sa.Select[Any]:
    stretch: sa.ColumnElement[int] = sa.literal_column(str(seconds * MICROS))
    each = (
        sa.select(
            (attempts.c.at // stretch).label("stretch"),
            attempts.c.cost,
            (attempts.c.prompt_tokens + attempts.c.completion_tokens).label("tokens"),
        )
        .where(attempts.c.at >= since * MICROS, attempts.c.at < until * MICROS)
        .subquery()
    )
    return sa.select(
        sa.literal_column("'attempt'", sa.Text),
        each.c.stretch,
        sa.literal_column("''", sa.Text),
        sa.func.count(),
        sa.func.sum(each.c.cost),
        sa.func.sum(each.c.tokens),
    ).group_by(each.c.stretch)


def _taken(since: int, until: int) -> sa.Select[Any]:
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
        .where(days.c.day >= since * MICROS, days.c.day < until * MICROS)
        .subquery()
    )
    keys = each.c.kind, each.c.stretch, each.c.outcome
    sums = (sa.func.sum(each.c[name]) for name in ("count", "money", "tokens"))
    return sa.select(*keys, *sums).group_by(*keys)

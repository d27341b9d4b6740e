"""Rows added up: by day, when retention takes them, and over all time, for counts that go on after a restart.

Each row of `requests` and `attempts` is first put into the shape of `days`; so there is one place that says what counts as what.
"""

from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.core.stretches import add_figures
from sentinel_gateway.ledger.tables import DAY, attempts, days, requests
from sentinel_gateway.ports.ledger import Past

FAILED: Final = "failed"
FAILED_FROM: Final = 400
UNANSWERED: Final = frozenset({FAILED, "none"})
HITS: Final = frozenset({"exact", "semantic"})
MOST: Final = 256
"""Pairs of a model and a route that are told apart: callers may name any model of a provider. All others are `other`."""
OTHER: Final = ("other", "other")
MICROS: Final = 1_000_000
SUMS: Final = tuple(column.name for column in days.columns if not column.primary_key and column.name != "updated")


def add_up(connection: sa.Connection, table: sa.Table, some: sa.ColumnElement[bool]) -> None:
    """Add these rows to those of their day."""
    each = _as_days(table).where(some).subquery()
    keys = [each.c[column.name] for column in days.primary_key.columns]
    sums = [sa.cast(sa.func.sum(each.c[name]), sa.BigInteger) for name in SUMS]
    chosen = sa.select(*keys, *sums, sa.func.max(each.c.updated)).group_by(*keys)
    names = [*(column.name for column in days.primary_key.columns), *SUMS, "updated"]
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(days)
    statement = insert.from_select(names, chosen)
    new = statement.excluded
    latest = sa.case((new.updated > days.c.updated, new.updated), else_=days.c.updated)
    added = {name: days.c[name] + new[name] for name in SUMS} | {"updated": latest}
    connection.execute(statement.on_conflict_do_update(index_elements=list(days.primary_key.columns), set_=added))


class Tally(msgspec.Struct, array_like=True, gc=False):
    """Rows of a kind (`request` or `attempt`) on a day (`start`), by model, route and outcome; sums as in `days`."""

    start: int
    kind: str
    model: str
    route: str
    outcome: str
    count: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    saved: int = 0
    estimated: int = 0
    unpriced: int = 0
    updated: int = 0

    def add(self, other: Self) -> None:
        """Add another's figures to these."""
        add_figures(self, other, SUMS)
        self.updated = max(self.updated, other.updated)


def tallies(connection: sa.Connection, since: int, until: int, seconds: int) -> list[Tally]:
    """What the rows that are here come to, by day. `seconds` are those of a day."""
    return tallies_of(connection, since * MICROS, until * MICROS, seconds)


def tallies_of(connection: sa.Connection, since: int, until: int, seconds: int | None = None) -> list[Tally]:
    """The same between two moments in microseconds; without `seconds` in one."""
    parts = [_as_days(table).where(table.c.at >= since, table.c.at < until) for table in (requests, attempts)]
    return _tallies(connection, parts, seconds)


def tallies_taken(connection: sa.Connection, day: int) -> list[Tally]:
    """What retention has taken of a day."""
    return _tallies(connection, [sa.select(days).where(days.c.day == day * MICROS)], DAY // MICROS)


def old_tallies(connection: sa.Connection, before: int) -> list[Tally]:
    """All that was before that day, in one (Unix seconds)."""
    parts = [_as_days(table).where(table.c.at < before * MICROS) for table in (requests, attempts)]
    return _tallies(connection, [*parts, sa.select(days).where(days.c.day < before * MICROS)], None)


def _tallies(connection: sa.Connection, parts: list[sa.Select[Any]], seconds: int | None) -> list[Tally]:
    every = sa.union_all(*parts).subquery()
    keys = [every.c[name] for name in ("kind", "model", "route", "outcome")] + ([] if seconds is None else [every.c.day])
    sums = [sa.func.sum(every.c[name]).label(name) for name in SUMS]
    asked = sa.select(sa.func.min(every.c.day), *keys[:4], *sums, sa.func.max(every.c.updated)).group_by(*keys)
    return [Tally(int(row[0]) // MICROS, *row[1:5], *map(int, row[5:])) for row in connection.execute(asked)]


def past(found: Iterable[Tally]) -> Past:
    """What these come to: how many requests by outcome, and money by model and route."""
    outcomes: dict[str, int] = {}
    costs: dict[tuple[str, str], Costs] = {}
    for one in sorted(found, key=lambda one: -one.count):
        if one.kind == "request":
            outcomes[one.outcome] = outcomes.get(one.outcome, 0) + one.count
            if one.outcome in UNANSWERED:
                continue
        use = (one.model, one.route) if (one.model, one.route) in costs or len(costs) < MOST else OTHER
        costs.setdefault(use, Costs()).add(_costs(one))
    return Past(outcomes, costs)


def _costs(one: Tally) -> Costs:
    """One sum, as money is told of."""
    updated = one.updated / MICROS
    if one.kind == "attempt":
        names = ("prompt_tokens", "completion_tokens", "cost", "estimated", "unpriced")
        return Costs(**{name: getattr(one, name) for name in names}, updated=updated)
    if one.outcome not in HITS:  # a miss has saved something where a part of what it asks was kept
        return Costs(requests=one.count, saved=one.saved, updated=updated)
    tokens = one.prompt_tokens + one.completion_tokens
    return Costs(requests=one.count, hits=one.count, saved=one.saved, saved_tokens=tokens, updated=updated)


def _as_days(table: sa.Table) -> sa.Select[Any]:
    """Each row as a row of `days`, with its columns in their order."""
    length: sa.ColumnElement[int] = sa.literal_column(str(DAY))  # a parameter would make two expressions of one
    own = _of_requests() if table is requests else _of_attempts()
    own |= {"day": table.c.at - table.c.at % length, "count": sa.literal_column("1")}
    nothing: sa.ColumnElement[Any] = sa.literal_column("0")
    shown = {
        column.name: own[column.name] if column.name in own else table.c.get(column.name, nothing) for column in days.columns
    }
    return sa.select(*(value.label(name) for name, value in shown.items()))


def _of_requests() -> dict[str, sa.ColumnElement[Any]]:
    failed = sa.or_(requests.c.status >= FAILED_FROM, requests.c.error != "")
    return {
        "kind": sa.literal_column("'request'", sa.Text),
        "outcome": sa.case((failed, FAILED), else_=requests.c.outcome),
        "updated": requests.c.at + requests.c.duration,
    }


def _of_attempts() -> dict[str, sa.ColumnElement[Any]]:
    return {
        "kind": sa.literal_column("'attempt'", sa.Text),
        "outcome": attempts.c.ending,
        "estimated": sa.case((attempts.c.basis == "estimated", attempts.c.cost), else_=0),
        "unpriced": sa.case((attempts.c.basis == "unknown", 1), else_=0),
        "updated": attempts.c.at + attempts.c.duration,
    }

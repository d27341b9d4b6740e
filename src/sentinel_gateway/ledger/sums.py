"""Rows added up: by day, when retention takes them, and over all time, for counts that go on after a restart.

Each row of `requests` and `attempts` is first put into the shape of `days`; so there is one place that says what counts as what.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sentinel_gateway.core.pricing import Costs
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


def past(connection: sa.Connection, before: int) -> Past:
    """What everything before that moment came to."""
    parts = [_as_days(table).where(table.c.at < before) for table in (requests, attempts)]
    every = sa.union_all(*parts, sa.select(days)).subquery()
    keys = (every.c.kind, every.c.model, every.c.route, every.c.outcome)
    sums = [sa.func.sum(every.c[name]).label(name) for name in SUMS]
    asked = sa.select(*keys, *sums, sa.func.max(every.c.updated).label("updated")).group_by(*keys).order_by(sa.desc("count"))
    outcomes: dict[str, int] = {}
    costs: dict[tuple[str, str], Costs] = {}
    for row in connection.execute(asked):
        if row.kind == "request":
            outcomes[row.outcome] = outcomes.get(row.outcome, 0) + int(row._mapping["count"])  # noqa: SLF001 - as below
            if row.outcome in UNANSWERED:
                continue
        use = (row.model, row.route) if (row.model, row.route) in costs or len(costs) < MOST else OTHER
        costs.setdefault(use, Costs()).add(_costs(row))
    return Past(outcomes, costs)


def _costs(row: Any) -> Costs:
    """One sum, as money is told of."""
    told, updated = row._mapping, int(row.updated) / MICROS  # noqa: SLF001 - public by its documentation
    if row.kind == "attempt":
        names = ("prompt_tokens", "completion_tokens", "cost", "estimated", "unpriced")
        return Costs(**{name: int(told[name]) for name in names}, updated=updated)
    count, saved = int(told["count"]), int(told["saved"])  # a miss has saved something where a part of what it asks was kept
    if row.outcome not in HITS:
        return Costs(requests=count, saved=saved, updated=updated)
    tokens = int(told["prompt_tokens"]) + int(told["completion_tokens"])
    return Costs(requests=count, hits=count, saved=saved, saved_tokens=tokens, updated=updated)


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

"""The tables, and the ways from a row of the journal into one of them.

Money is whole nano-USD, times are whole microseconds, moments those since 1970. The keys begin with the moment: rows come in its
order, are asked for by it, and go by it. What goes is added up by day first (`days`), so that sums over all time stay exact.
"""

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from msgspec.structs import astuple

from sentinel_gateway.ports.ledger import Enrolled, Handled, Settled

DAY: Final = 86_400_000_000
"""Microseconds."""

METADATA: Final = sa.MetaData()

requests: Final = sa.Table(
    "requests",
    METADATA,
    sa.Column("at", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(128), nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("attempts", sa.SmallInteger, nullable=False),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("saved", sa.BigInteger, nullable=False),
    sa.Column("similarity", sa.Float, nullable=False),
    sa.Column("duration", sa.BigInteger, nullable=False),
    sa.Column("upstream", sa.BigInteger, nullable=False),
    sa.Column("first_byte", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
attempts: Final = sa.Table(
    "attempts",
    METADATA,
    sa.Column("at", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.SmallInteger, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("ending", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("priced", sa.String(10), nullable=False),
    sa.Column("basis", sa.String(9), nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("duration", sa.BigInteger, nullable=False),
    sa.Column("first_token", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
days: Final = sa.Table(
    "days",
    METADATA,
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("route", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("outcome", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("saved", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.BigInteger, nullable=False),
    sa.Column("unpriced", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Rows that retention took, added up; `kind` is `request` or `attempt`.

`outcome` is the cache's, `failed` if there was no good answer, or how the attempt ended. `estimated` is of `cost`, `unpriced` are
calls whose price is not known, `updated` is the last moment of all.
"""
rollups: Final = sa.Table(
    "rollups",
    METADATA,
    sa.Column("start", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.String(40), primary_key=True),
    sa.Column("begun", sa.BigInteger, nullable=False),
    sa.Column("items", sa.LargeBinary),
)
"""What the rows of an hour or a day that is over come to (`rollups.py`); `items` is missing while that is being added up."""
trials: Final = sa.Table(
    "trials",
    METADATA,
    sa.Column("at", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("experiment", sa.Text, nullable=False),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("unit", sa.BigInteger, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("saved", sa.BigInteger, nullable=False),
    sa.Column("duration", sa.BigInteger, nullable=False),
    sa.Column("first_byte", sa.BigInteger, nullable=False),
    sa.Index("trials_of_experiment", "experiment", "at"),
    sqlite_with_rowid=False,
)
"""Requests that were part of an experiment, each beside its row in `requests`; retention takes them, and adds up nothing."""


def attempt_values(row: Settled) -> tuple[Any, ...]:
    """A row of `attempts`, in the order of its columns."""
    intent, spent = row.intent, row.spent
    return (
        intent.started,
        intent.request,
        intent.number,
        intent.tenant,
        intent.key,
        intent.route,
        intent.model,
        intent.provider,
        intent.target,
        intent.stream,
        row.ending,
        row.error,
        spent.prompt_tokens,
        spent.cached_tokens,
        spent.cache_write_tokens,
        spent.completion_tokens,
        spent.reasoning_tokens,
        spent.cost,
        spent.priced,
        spent.basis,
        intent.reserved,
        row.duration,
        row.first_token,
    )


def _in_the_order_of(table: sa.Table, row: type[Handled | Enrolled]) -> sa.TableClause:
    """A table as rows are put into it whose members are called as its columns are."""
    return sa.table(table.name, *(sa.column(name, table.c[name].type) for name in row.__struct_fields__))


VALUES: Final[dict[type[Any], tuple[sa.TableClause, Callable[[Any], tuple[Any, ...]]]]] = {
    Handled: (_in_the_order_of(requests, Handled), astuple),
    Settled: (attempts, attempt_values),
    Enrolled: (_in_the_order_of(trials, Enrolled), astuple),
}

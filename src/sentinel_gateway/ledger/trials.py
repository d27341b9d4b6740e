"""What is asked of the tables about experiments. Of `windows.py`'s thread.

Requests of one unit (a conversation, a key) are alike, so they are added up by unit first: what an arm is known to differ by goes
by how much its units do.
"""

from typing import Any, Final

import sqlalchemy as sa

from sentinel_gateway.core.experiments import Sums, Tally
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.errors import BadRequest
from sentinel_gateway.ledger.questions import bucket_of
from sentinel_gateway.ledger.sums import HITS
from sentinel_gateway.ledger.tables import trials
from sentinel_gateway.ports.ledger import Tried

LEFT: Final = 499
"""The status of who hung up: that is no error of an arm's."""
FIGURES: Final = ("hits", "errors", "cost", "latency")


def tallies(connection: sa.Connection, experiment: str, since: int, until: int) -> list[Tally]:
    """What each arm came to from one moment to before another (Unix seconds), by name."""
    if not sa.inspect(connection).has_table(trials.name):  # nobody has written here since the upgrade
        return []
    those = (trials.c.experiment == experiment) & (trials.c.at >= since * MICROS) & (trials.c.at < until * MICROS)
    found = {row.arm: row for row in connection.execute(_sums(those))}
    outcomes = _counts(
        connection, sa.select(trials.c.arm, trials.c.outcome, sa.func.count()).where(those).group_by("arm", "outcome")
    )
    latencies = _counts(connection, _buckets(trials.c.duration, those))
    first_tokens = _counts(connection, _buckets(trials.c.first_byte, those & (trials.c.first_byte > 0)))
    return [
        Tally(
            arm=arm,
            units=int(row.units),
            requests=int(row.requests),
            size=float(row.size),
            outcomes=outcomes[arm],
            **{name: Sums(*(float(getattr(row, f"{name}_{part}")) for part in Sums.__struct_fields__)) for name in FIGURES},
            saved=int(row.saved),
            latencies=latencies[arm],
            first_tokens=first_tokens.get(arm, {}),
        )
        for arm, row in sorted(found.items())
    ]


def tried(connection: sa.Connection, since: int, until: int) -> list[Tried]:
    """Which experiments there were."""
    if not sa.inspect(connection).has_table(trials.name):
        return []
    those = (trials.c.at >= since * MICROS) & (trials.c.at < until * MICROS)
    moments = sa.func.min(trials.c.at), sa.func.max(trials.c.at)
    asked = sa.select(trials.c.experiment, sa.func.count(), *moments).where(those).group_by(trials.c.experiment)
    return [
        Tried(name, int(requests), int(first) // MICROS, int(last) // MICROS)
        for name, requests, first, last in connection.execute(asked.order_by(trials.c.experiment))
    ]


def _sums(those: sa.ColumnElement[bool]) -> sa.Select[Any]:
    hit, bad = trials.c.outcome.in_(tuple(HITS)), (trials.c.status >= BadRequest.status) & (trials.c.status != LEFT)
    one = sa.literal_column("1.0", sa.Float)
    none = sa.literal_column("0.0", sa.Float)
    each = {
        "hits": sa.case((hit, one), else_=none),
        "errors": sa.case((bad, one), else_=none),
        "cost": sa.cast(trials.c.cost, sa.Double),
        "latency": sa.cast(trials.c.duration, sa.Double),
    }
    units = (
        sa.select(
            trials.c.arm,
            sa.cast(sa.func.count(), sa.Double).label("requests"),
            sa.func.sum(trials.c.saved).label("saved"),
            *(sa.func.sum(figure).label(name) for name, figure in each.items()),
        )
        .where(those)
        .group_by(trials.c.arm, trials.c.unit)
        .subquery()
    )
    sums = [
        part
        for name in FIGURES
        for part in (
            sa.func.sum(units.c[name]).label(f"{name}_total"),
            sa.func.sum(units.c[name] * units.c[name]).label(f"{name}_squares"),
            sa.func.sum(units.c[name] * units.c.requests).label(f"{name}_products"),
        )
    ]
    whole = [
        sa.func.count().label("units"),
        sa.func.sum(units.c.requests).label("requests"),
        sa.func.sum(units.c.requests * units.c.requests).label("size"),
        sa.func.sum(units.c.saved).label("saved"),
    ]
    return sa.select(units.c.arm, *whole, *sums).group_by(units.c.arm)


def _buckets(column: sa.Column[int], those: sa.ColumnElement[bool]) -> sa.Select[Any]:
    each = sa.select(trials.c.arm, bucket_of(column).label("bucket")).where(those).subquery()
    return sa.select(each.c.arm, each.c.bucket, sa.func.count()).group_by(each.c.arm, each.c.bucket)


def _counts(connection: sa.Connection, asked: sa.Select[Any]) -> dict[str, dict[Any, int]]:
    found: dict[str, dict[Any, int]] = {}
    for arm, what, count in connection.execute(asked):
        found.setdefault(arm, {})[what] = int(count)
    return found

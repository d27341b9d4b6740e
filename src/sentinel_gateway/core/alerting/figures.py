"""What rules go by: figures at a moment, what they ask for, and what they find. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.anomalies import Anomaly
from sentinel_gateway.core.budgets import BudgetUse
from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.windows import Window

BIN: Final = 300
"""Seconds of the stretches that figures of calls and requests come in."""


class Served(msgspec.Struct, frozen=True, gc=False):
    """Requests to models that began within 5 minutes. `start` in Unix seconds.

    `failed` were answered with 5xx. Of `decided`, the cache had `hits`.
    """

    start: int
    requests: int
    failed: int
    decided: int
    hits: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at a moment (`now`, Unix seconds). None: it can't be told now, and whatever stands on it stays as it was.

    `calls` and `served` are of 5 minutes each and in order, `month` is what this month (UTC) has cost so far, in nano-USD.
    Circuits that are `half_open` are not among the open ones.
    """

    now: float
    calls: Sequence[Window] | None = None
    served: Sequence[Served] | None = None
    month: int | None = None
    health: Mapping[str, float] | None = None
    open_circuits: Collection[str] | None = None
    half_open: Collection[str] = ()
    budgets: Sequence[BudgetUse] | None = None
    wrong: Estimate | None = None
    anomalies: Sequence[Anomaly] | None = None


class Finding(msgspec.Struct, frozen=True):
    """A rule holds of something. `subject` is what: a provider, a target, a budget; empty: all together.

    What does not begin an alert keeps one that there is: it is neither as bad as it was nor well again.
    """

    subject: str
    value: float
    limit: float
    text: str
    begins: bool = True


class Needs(msgspec.Struct, frozen=True):
    """What rules ask for: how many seconds of `calls` and `served` there must be, and which of the others."""

    calls: int = 0
    served: int = 0
    month: bool = False
    anomalies: bool = False
    metrics: frozenset[str] = frozenset()

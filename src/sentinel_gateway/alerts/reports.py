"""When reports are due, and the letters that they become.

A report is of the time from one of its moments to the next. The moment of the last one is kept with the board of alerts, and its
letters in the same transaction: whichever node looks, and whoever dies when, each is made once. One that could not be made, since
the ledger does not answer, is made at a later look; of several that were missed, the last one is. One is made a look, so that
a slow ledger keeps no alert waiting for all of them.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.core.alerting.reports import Wanted

WEEK: Final = 7
SETTLED: Final = 300.0
"""Seconds after its moment until a report is made: by then the ledger has what ended before it."""
FORGOTTEN: Final = 30 * 86_400.0
"""Seconds until it is not known any more when a report was told that a node has no plan of, as other nodes may have one."""


class Schedule(msgspec.Struct, frozen=True):
    """At an hour of a zone, each day, or each week on a day (0 is Monday)."""

    zone: ZoneInfo
    hour: int = 8
    weekday: int | None = None

    def last(self, now: float) -> tuple[float, float]:
        """Its last moment up to now, behind the one before that (Unix seconds)."""
        there = datetime.fromtimestamp(now, UTC).astimezone(self.zone)
        days = 0 if self.weekday is None else (there.weekday() - self.weekday) % WEEK
        step = timedelta(days=1 if self.weekday is None else WEEK)
        moment = (there - timedelta(days=days)).replace(hour=self.hour, minute=0, second=0, microsecond=0, fold=0)
        if moment.timestamp() > now:
            moment -= step
        return (moment - step).timestamp(), moment.timestamp()


class Report(msgspec.Struct, frozen=True):
    """What is told, and when."""

    wanted: Wanted
    schedule: Schedule


Compile = Callable[[Wanted, float, float], Awaitable[Message | None]]
"""What a report says of the time from one moment to another; None where that can't be told now. Never raises."""
Written = Sequence[tuple[str, Message]]
"""Channels, and what each is to be sent."""


async def due(
    reports: Sequence[Report], compile_: Compile, told: Mapping[str, float], channels: Collection[str], now: float
) -> tuple[Mapping[str, float], Written]:
    """The moments of the last reports from now on, by their names, and what is to be sent: one report at the most.

    `told` are those moments as they were. One that is new begins with its next moment.
    """
    names = {report.wanted.name for report in reports}
    moments = {name: moment for name, moment in told.items() if name in names or moment > now - FORGOTTEN}
    for report in reports:
        moments.setdefault(report.wanted.name, report.schedule.last(now)[1])
    for report in reports:
        name, (since, until) = report.wanted.name, report.schedule.last(now - SETTLED)
        if moments[name] < until:
            message = await compile_(report.wanted, since, until)
            if message is None:
                return moments, ()
            moments[name] = until
            return moments, [(channel, message) for channel in report.wanted.channels or channels if channel in channels]
    return moments, ()

"""The hour under way, of which no sum is kept yet: what reading it took says for how long it is believed, and who reads it.

Hours, days and stretches of five minutes are told by the same rows. Where these are so many that reading them takes long, they
are read once for all who ask, as finely as sums of hours are kept. What is made of them may be believed for as long again.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sentinel_gateway.ledger.rollups import Family, Span

HOUR: Final = 3600
DAY: Final = 86_400
REST: Final = 40
"""For so many times what reading took of the processor, beyond `LONG`, is it believed: a question takes little of a core, however
often it is asked. PostgreSQL works elsewhere."""
LONG: Final = 0.1
MOST_BEHIND: Final = 60.0
"""Seconds."""


def rest(worked: float) -> float:
    """For how many seconds that is believed whose reading took so many of the processor."""
    return min(max(0.0, REST * (worked - LONG)), MOST_BEHIND)


class UnderWay:
    """For one thread. `clock` gives Unix seconds, `worked` how many seconds of the processor the thread has had."""

    def __init__(self, clock: Callable[[], float], worked: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._worked = worked
        self._long: int | None = None
        self._kept: dict[str, _Read] = {}

    def __repr__(self) -> str:
        return f"<UnderWay {'of little' if self._long is None else f'{len(self._kept)} kept'}>"

    def took_long(self) -> None:
        """To read the hour under way."""
        self._long = int(self._clock()) // HOUR * HOUR

    def rows(self, family: "Family", connection: "sa.Connection", span: "Span") -> Sequence[Any]:
        """What the rows of these hours come to."""
        hour = self._long
        if hour is None or not span.since <= hour < span.until or span.seconds % family.hour:
            return family.rows(connection, *span)
        if family.taken(connection, hour // DAY * DAY):  # what retention goes on to take would be told twice
            return family.rows(connection, *span)
        others = (span._replace(until=hour), span._replace(since=hour + HOUR))
        found = [one for other in others if other.since < other.until for one in family.rows(connection, *other)]
        return [*found, *self._of(family, connection, hour)]

    def _of(self, family: "Family", connection: "sa.Connection", hour: int) -> list[Any]:
        """A copy for each who asks: it is added to others."""
        read = self._kept.get(family.name)
        asked = self._clock()
        if read is None or read.hour != hour or asked >= read.until:
            worked = self._worked()
            items = family.rows(connection, hour, hour + HOUR, family.hour)
            read = _Read(hour, asked + rest(self._worked() - worked), msgspec.msgpack.encode(items))
            self._kept[family.name] = read
        found: list[Any] = msgspec.msgpack.decode(read.items, type=list[family.item])  # type: ignore[name-defined]
        return found


class _Read(NamedTuple):
    """What an hour came to, and until when that is believed (Unix seconds)."""

    hour: int
    until: float
    items: bytes

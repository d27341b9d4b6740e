"""The hour under way and the one before, of which no sum is kept yet: what reading took says for how long it is believed.

Hours, days and stretches of five minutes are told by the same rows. Where these are so many that reading them takes long, they
are read once for all who ask, as finely as sums of hours are kept. What is made of them may be believed for as long again.
"""

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

    def __init__(self, clock: Callable[[], float], worked: Callable[[], float]) -> None:
        self._clock = clock
        self._worked = worked
        self._long: int | None = None
        self._kept: dict[tuple[str, int], _Read] = {}
        """By the family, and the hour that it is of."""

    def __repr__(self) -> str:
        return f"<UnderWay {'of little' if self._long is None else f'{len(self._kept)} kept'}>"

    def took_long(self) -> None:
        """To read the hour under way, or the one before, which is kept open for a while."""
        self._long = int(self._clock()) // HOUR * HOUR
        self._kept = {place: read for place, read in self._kept.items() if place[1] in self._hours()}

    def rows(self, family: "Family", connection: "sa.Connection", span: "Span") -> Sequence[Any]:
        """What the rows of these hours come to."""
        hours = [] if span.seconds % family.hour else [hour for hour in self._hours() if span.since <= hour < span.until]
        # What retention goes on to take would be told twice.
        if not hours or any(family.taken(connection, day) for day in {hour // DAY * DAY for hour in hours}):
            return family.rows(connection, *span)
        before, after = span._replace(until=hours[0]), span._replace(since=hours[-1] + HOUR)
        found = list(family.rows(connection, *before)) if before.since < before.until else []
        for hour in hours:
            found += self._of(family, connection, hour)
        return [*found, *family.rows(connection, *after)] if after.since < after.until else found

    def _hours(self) -> Sequence[int]:
        """Those that are read once."""
        return () if self._long is None else (self._long - HOUR, self._long)

    def _of(self, family: "Family", connection: "sa.Connection", hour: int) -> list[Any]:
        """A copy for each who asks: it is added to others."""
        read = self._kept.get((family.name, hour))
        asked = self._clock()
        if read is None or asked >= read.until:
            worked = self._worked()
            items = family.rows(connection, hour, hour + HOUR, family.hour)
            read = _Read(asked + rest(self._worked() - worked), msgspec.msgpack.encode(items))
            self._kept[family.name, hour] = read
        found: list[Any] = msgspec.msgpack.decode(read.items, type=list[family.item])  # type: ignore[name-defined]
        return found


class _Read(NamedTuple):
    """What an hour came to, and until when that is believed (Unix seconds)."""

    until: float
    items: bytes

"""How long requests took, by the region that they came from: the last day, in memory. No address is ever looked at or kept."""

import re
from collections.abc import Callable
from typing import Final

from sentinel_gateway.core.record import Record
from sentinel_gateway.core.windows import MICROS, OTHER, Window, bucket_of
from sentinel_gateway.ports import Events

HOUR: Final = 3600
HOURS: Final = 24
MOST: Final = 256
"""Regions that are told apart in an hour: who sends what the proxy lets through can't fill the memory."""
SANE: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
FAILED_FROM: Final = 400


class Regions:
    """Belongs to the event loop's thread. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hours: dict[int, dict[str, Window]] = {}

    def __repr__(self) -> str:
        return f"<Regions of {len(self._hours)} hours>"

    def add(self, record: Record) -> None:
        """Count a request whose region is known."""
        if not record.region:
            return
        start = int(record.at) // HOUR * HOUR
        hour = self._hours.get(start)
        if hour is None:
            hour = self._hours[start] = {}
            self._forget()
        region = record.region if SANE.fullmatch(record.region) else OTHER
        if region not in hour and len(hour) >= MOST:
            region = OTHER
        micros = int(record.seconds * MICROS)
        good = record.status < FAILED_FROM and not record.error
        counted = Window(start, "", region, requests=1, endings={"answered" if good else "failed": 1})
        if good:
            counted.latency, counted.buckets = micros, {bucket_of(micros): 1}
        hour.setdefault(region, Window(start, "", region)).add(counted)

    def since(self, start: int) -> list[Window]:
        """The hours that begin from then on; `model` is the region."""
        self._forget()
        return [window for hour, regions in sorted(self._hours.items()) if hour >= start for window in regions.values()]

    def _forget(self) -> None:
        first = int(self._clock()) // HOUR * HOUR - (HOURS - 1) * HOUR
        for start in [start for start in self._hours if start < first]:
            del self._hours[start]


class Located:
    """The port `Events`, with regions counted as well."""

    def __init__(self, events: Events, regions: Regions) -> None:
        self._events = events
        self._regions = regions
        self.attempted = events.attempted
        self.note = events.note

    def __repr__(self) -> str:
        return f"<Located {self._regions!r}>"

    def finished(self, record: Record) -> None:
        self._events.finished(record)
        self._regions.add(record)

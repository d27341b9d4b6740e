"""Closing hours and days that are over (`rollups.py`), a little at a time, beside what is copied. A long past takes a while."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sentinel_gateway.ledger import rollups

if TYPE_CHECKING:
    from sentinel_gateway.ledger.sql import Database

AT_ONCE: Final = 0.2
"""Seconds of work, after which it is what comes to be copied that has its turn."""
STEP: Final = 6 * rollups.HOUR
"""Seconds whose rows are added up by one question."""
LOOK_AGAIN: Final = 300.0
"""Seconds until it looks again for what is over, once all is closed that was."""


class Closer:
    """Of the thread that `database` belongs to. `clock` gives Unix seconds. Its methods raise `StoreDown`.

    Once `stopped` says so it begins nothing more: whoever stops has rows that are still to be copied.
    """

    def __init__(self, database: "Database", clock: Callable[[], float], stopped: Callable[[], bool] = lambda: False) -> None:
        self._database = database
        self._clock = clock
        self._stopped = stopped
        self._due: deque[tuple[rollups.Level, int]] = deque()
        self._look_at = 0.0

    def __repr__(self) -> str:
        return f"<Closer {len(self._due)} due>"

    def work(self, seconds: float = AT_ONCE) -> int:
        """Close some of what is due, for so many seconds or a stretch longer; how many are left. What fails is due later."""
        end = time.monotonic() + seconds
        if not self._due and end - seconds >= self._look_at:
            self._look()
        while self._due and not self._stopped():
            self._close(*self._due.popleft())
            if time.monotonic() >= end:
                break
        return len(self._due)

    def _look(self) -> None:
        now = int(self._clock())
        with self._database.writing() as connection:
            rollups.forget(connection, now)
        with self._database.reading() as connection:
            self._due.extend(rollups.missing(connection, now))
        self._look_at = time.monotonic() + LOOK_AGAIN

    def _close(self, level: rollups.Level, start: int) -> None:
        """With nobody kept from writing while rows are read.

        Each by itself, though each waits for the disk: one that fails is one, and who holds one row never waits for another,
        for which somebody who opens both again may wait.
        """
        with self._database.writing() as connection:
            begun = rollups.begin(connection, level, start, int(self._clock()))
        items = None if begun is None else self._add_up(level, start)
        if begun is not None and items is not None:
            with self._database.writing() as connection:
                rollups.close(connection, level, start, begun, items)

    def _add_up(self, level: rollups.Level, start: int) -> list[Any] | None:
        """Some hours after the other, so that no question takes long; None if it was stopped."""
        family, found = level.family, rollups.Sum(level.family, level.seconds)
        for begin in range(start, start + level.length, STEP):
            if self._stopped():
                return None
            end = min(begin + STEP, start + level.length)
            with self._database.reading() as connection:
                found.add(rollups.by_hours(connection, family, rollups.Span(begin, end, level.seconds)))
        if (level.length, level.seconds) == (rollups.DAY, rollups.DAY):
            with self._database.reading() as connection:
                found.add(family.taken(connection, start))
        return found.items()

"""The writer: one thread that copies segments into SQL, deletes those that are there, and takes rows that are old enough.

Where the database is away, segments wait. What a process that died has left is copied as well: an intent without an outcome
becomes an attempt that ended as `orphan`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_gateway.core.breathing import breath
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger import frames
from sentinel_gateway.ledger.frames import RowT
from sentinel_gateway.ledger.journal import LOCK, Journal, OnEvent, adopted, segments
from sentinel_gateway.ports.ledger import Enrolled, Handled, Intent, Past, Settled, Spent

if TYPE_CHECKING:
    from sentinel_gateway.ledger.closing import Closer
    from sentinel_gateway.ledger.sql import Database

FIRST: Final = 3.0
"""Seconds after the first row before SQLAlchemy is loaded: the gateway has better things to do when it starts."""
EVERY: Final = 1.0
"""Seconds between two copies."""
WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds after failures in a row."""
ROWS: Final = 2000
"""In one transaction."""
PIECE: Final = 128
"""Rows that are read at once: as they are, nobody else has the interpreter."""
LOOK_AGAIN: Final = 60.0
"""Seconds until it looks again for what others left, and for rows that are old enough."""
PAST_AGAIN: Final = 120.0
"""Seconds until it adds up again what the database could not: that takes long, and keeps it from copying."""
PAUSE: Final = 0.05
"""Seconds between two batches that retention takes."""
END: Final = 10.0
"""Seconds that closing waits for the database."""
REFUSED: Final = "refused.jsonl"
"""Beside the journals: rows that the database will never take, such as one with a number beyond its integers."""
DAY: Final = 86_400
MICROS: Final = 1_000_000

Value = Enrolled | Handled | Settled


class Habits(msgspec.Struct, frozen=True):
    """`retention` in days. `eager`: the database is another program, which may be away: connect at the start."""

    retention: float
    eager: bool = False
    first: float = FIRST
    every: float = EVERY


class Copier:
    """Copies what `journal` writes, into what `open_database` makes. `clock` gives Unix seconds."""

    def __init__(
        self,
        journal: Journal,
        open_database: "Callable[[], Database]",
        habits: Habits,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
    ) -> None:
        self._journal = journal
        self._open_database = open_database
        self._habits = habits
        self._clock = clock
        self._on_event = on_event
        self._database: Database | None = None
        self._offsets: dict[Path, int] = {}
        self._looked = -LOOK_AGAIN
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._breathed_at = 0.0  # of this thread's work
        self._closer: Closer | None = None
        self._close_again = 0.0
        self._past: Future[Past] | None = None
        self._past_again = 0.0
        self.is_past_unknown = False
        """Has the database failed to add up the past?"""
        self._began = int(clock() * MICROS)
        self.fault: str | None = None
        """Why the database takes nothing, if it does not."""
        self.copied = 0
        self._thread = threading.Thread(target=self._run, name="sentinel-ledger", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Copier {self.copied} rows copied{', down: ' + self.fault if self.fault else ''}>"

    def past(self) -> "Future[Past]":
        """What all requests before this process came to, those of processes that died included; once. Of the loop's thread."""
        if self._past is None:
            self._past = Future()
            self._wake.set()
        return self._past

    def close(self) -> bool:
        """Copy what is left, if the database was in use, and end. Blocks. Did it come to its end?"""
        self._stop.set()
        self._wake.set()
        self._thread.join(END)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if not self._habits.eager:
            self._wait(self._habits.first)
            while not self._stop.is_set() and not self._is_wanted():
                self._wait(self._habits.first)
        failures = 0
        while not self._stop.is_set():
            failures = 0 if self._tried() else failures + 1
            self._wait(WAITS[min(failures, len(WAITS)) - 1] if failures else self._habits.every)
        if self._database is not None:
            if not self.fault:
                self._tried()
            self._database.close()
        if self._past is not None:
            self._past.cancel()

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _is_wanted(self) -> bool:
        """Is there anything to copy, or to tell?"""
        own = self._journal.folder
        others = (found for found in _folders(own.parent) if found != own)
        return self._past is not None or any(segments(own)) or any(others)

    def _tried(self) -> bool:
        try:
            self._copy()
            self._tell_past()
        except (StoreDown, OSError) as exc:  # no room for refused rows, for one: the thread goes on
            if self.fault is None:
                self._on_event("ledger_database_down", reason=str(exc))
            self.fault = str(exc)
            return False
        if self.fault is not None:
            self.fault = None
            self._on_event("ledger_database_up")
        return True

    def _copy(self) -> None:
        if self._database is None:
            self._database = self._open_database()
            self._database.breathe = self._breathe
        if not self._database.is_open:
            self._database.open()
        for path in segments(self._journal.folder):
            with suppress(FileNotFoundError):  # the journal itself deletes one that it could not begin
                self._copy_own(path, self._database)
        now = time.monotonic()
        if now - self._looked >= LOOK_AGAIN:  # last: what can't be done for others, or of old rows, keeps none of ours waiting
            self.copied += copy_left_behind(self._journal.folder.parent, self._database, self._on_event)
            self._prune(self._database)
            self._looked = now
        if not self._stop.is_set():
            self._close_stretches(self._database)

    def _breathe(self) -> None:
        """Leave the core to the event loop for a while; at the end nobody is served, and there is `END` for all that is left."""
        worked = time.thread_time()
        if seconds := breath(worked - self._breathed_at):
            self._stop.wait(seconds)
            self._breathed_at = worked

    def _tell_past(self) -> None:
        if self._past is None or self._past.done() or self._database is None or time.monotonic() < self._past_again:
            return
        try:
            self._past.set_result(self._database.past(self._began))
            self.is_past_unknown = False
        except StoreDown as exc:  # it takes rows all the same
            if not self.is_past_unknown:
                self._on_event("ledger_past_unknown", reason=str(exc))
            self.is_past_unknown, self._past_again = True, time.monotonic() + PAST_AGAIN

    def _copy_own(self, path: Path, database: "Database") -> None:
        complete = int(path.stem) < self._journal.current  # before it is read: afterwards it may have been ended meanwhile
        reading = Reading(path, self._offsets.get(path, 0))
        for rows in reading.batches(database.breathe):
            _keep(rows, database, self._journal.folder.parent, self._on_event)
            self.copied += len(rows)
            self._offsets[path] = reading.end
        if complete:
            size = path.stat().st_size
            _put_away(path, reading, self._on_event)
            self._journal.freed += size
            self._offsets.pop(path, None)

    def _close_stretches(self, database: "Database") -> None:
        """What is over is added up. What can't be is told of by its rows, and tried again later."""
        if self._closer is None:
            from sentinel_gateway.ledger.closing import Closer  # noqa: PLC0415 - SQLAlchemy, which is here by now

            self._closer = Closer(database, self._clock, self._stop.is_set)
        if time.monotonic() < self._close_again:
            return
        try:
            self._closer.work()
        except StoreDown as exc:  # it takes rows all the same
            self._on_event("ledger_not_added_up", reason=str(exc))
            self._close_again = time.monotonic() + PAST_AGAIN

    def _prune(self, database: "Database") -> None:
        if not self._habits.retention:
            return
        before = int((self._clock() - self._habits.retention * DAY) * MICROS)
        while database.prune(before) and not self._stop.wait(PAUSE):
            pass


class Reading:
    """A segment being read from a place on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self.end = start
        self.rest = 0
        self.damaged = False

    def rows(self, decoder: msgspec.msgpack.Decoder[list[RowT]]) -> Iterator[list[RowT]]:
        """What stands there now, some rows at a time; `end` is how far it has come."""
        with self._path.open("rb") as file:
            file.seek(self.end)
            data = file.read()
        base, at = self.end, 0
        if base == 0 and data:
            if not data.startswith(frames.MAGIC):
                self.rest, self.damaged = len(data), True
                return
            at = len(frames.MAGIC)
        while True:
            read = frames.read(data, decoder, at, limit=PIECE)
            at, self.rest, self.damaged = read.end, read.rest, read.damaged
            self.end = base + at
            if not read.rows:
                return
            yield read.rows

    def batches(self, breathe: Callable[[], object]) -> Iterator[list[Value]]:
        """The same without intents; as many as are copied at a time. `breathe` is called in between."""
        values: list[Value] = []
        for rows in self.rows(frames.OUTCOMES):
            values += [row for row in rows if not isinstance(row, frames.Begun)]
            if len(values) >= ROWS:
                yield values
                values = []
            breathe()
        if values:
            yield values


def copy_left_behind(parent: Path, database: "Database", on_event: OnEvent) -> int:
    """Copy what processes that died have left below `parent`; how many rows. Raises `StoreDown`, and may be called again then."""
    copied = 0
    for folder, lock in adopted(parent):
        try:
            copied += _adopt(folder, database, on_event)
            (folder / LOCK).unlink()
            with suppress(OSError):  # what was damaged stays
                folder.rmdir()
        except OSError as exc:
            raise StoreDown(f"{folder}: {exc}") from exc
        finally:
            os.close(lock)
    return copied


def _adopt(folder: Path, database: "Database", on_event: OnEvent) -> int:
    paths = segments(folder)
    orphans = _orphans(paths)
    if orphans:
        on_event("ledger_orphans", count=len(orphans), reason="the process died before their outcome was known")
    left, copied = iter(orphans), 0
    while some := list(islice(left, ROWS)):  # before any segment goes: their intents may stand in the first
        _keep(some, database, folder.parent, on_event)
        copied += len(some)
    for path in paths:
        reading = Reading(path)
        for rows in reading.batches(database.breathe):
            _keep(rows, database, folder.parent, on_event)
            copied += len(rows)
        _put_away(path, reading, on_event)
    return copied


def _keep(rows: Sequence[Value], database: "Database", parent: Path, on_event: OnEvent) -> None:
    """Have the database keep them. One that no database can hold goes to a file, so that it holds up no other."""
    from sentinel_gateway.ledger.sql import Refused  # noqa: PLC0415 - SQLAlchemy, which is here by now

    try:
        database.copy(rows)
    except Refused as exc:
        refused = database.copy_each(rows)
        on_event("ledger_rows_refused", count=len(refused), reason=str(exc))
        with (parent / REFUSED).open("ab") as file:
            file.writelines(msgspec.json.encode(row) + b"\n" for row in refused)


def _orphans(paths: list[Path]) -> list[Settled]:
    """The calls of which nobody knows the outcome."""
    left: dict[tuple[str, int], Intent] = {}
    for path in paths:
        for rows in Reading(path).rows(frames.ALL):
            for row in rows:
                if isinstance(row, Intent):
                    left[row.request, row.number] = row
                elif isinstance(row, Settled):
                    left.pop((row.intent.request, row.intent.number), None)
    return [Settled(intent, "orphan", Spent(basis="unknown")) for intent in left.values()]


def _put_away(path: Path, reading: Reading, on_event: OnEvent) -> None:
    """A segment of which all that can be read is in SQL: it is deleted, or kept aside if something has changed it."""
    if reading.damaged:
        on_event("ledger_segment_damaged", reason=f"{reading.rest} bytes of it can't be read", file=path.name)
        path.rename(path.with_suffix(".damaged"))
        return
    if reading.rest:
        on_event("ledger_tail_torn", bytes=reading.rest, file=path.name)
    path.unlink()


def _folders(parent: Path) -> Iterator[Path]:
    yield from parent.glob("[0-9a-f]*")

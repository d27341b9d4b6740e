"""The disk tier's reading side: one thread, one connection that can neither write nor checkpoint.

The event loop never touches the disk, so a frozen one can't freeze it. The price is two switches of threads: a miss takes 32 us
of CPU when alone, of which SQLite has 5, and 14 us with 8 in flight, which share the switches. A hit takes 14 us more, to be
read and proven.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentinel_gateway.core.caching import Entry
from sentinel_gateway.stores._inbox import Inbox
from sentinel_gateway.stores._sealing import unseal
from sentinel_gateway.stores._sqlite_file import is_broken
from sentinel_gateway.stores._sqlite_rows import hash_of
from sentinel_gateway.stores._sqlite_writer import Writer

# Cast, since a flipped bit in a row's head makes a number or a text of a blob.
_FIND = "SELECT id, CAST(sealed AS BLOB) FROM replies WHERE hash = ?"

BUSY_SECONDS: Final = 0.05
"""How long it waits where the writer is just opening or closing the file."""

TOGETHER: Final = 16
"""Answers given to the event loop at once, where more questions wait: waking it for each would double what a look-up costs."""

Lookup = asyncio.Future[Entry | None]


class Reader:
    """Finds entries by key, in order of asking; `answered` and `failed` are called on the event loop."""

    def __init__(
        self,
        path: Path,
        *,
        writer: Writer,
        inbox: Inbox,
        answered: Callable[[Lookup, Entry | None], None],
        failed: Callable[[Lookup, str], None],
    ) -> None:
        self._address = f"{path.as_uri()}?mode=ro"
        self._writer = writer
        self._inbox = inbox
        self._answered = answered
        self._failed = failed
        self._questions: queue.SimpleQueue[tuple[str, Lookup] | None] = queue.SimpleQueue()
        self._database: sqlite3.Connection | None = None
        self._generation = 0
        self.ended = asyncio.Event()
        threading.Thread(target=self._run, name="sentinel-cache-reader", daemon=True).start()

    def ask(self, key: str, lookup: Lookup) -> None:
        self._questions.put((key, lookup))

    def stop(self) -> None:
        """Answer what was asked, then end: `ended` is set."""
        self._questions.put(None)

    def _run(self) -> None:
        held = 0
        while (question := self._questions.get()) is not None:
            key, lookup = question
            if not lookup.done():  # given up: after a freeze the queue is full of these
                self._answer(key, lookup)
                held += 1
            if held >= TOGETHER or self._questions.empty():
                self._inbox.announce()
                held = 0
        self._close()
        self._inbox.send(self.ended.set)

    def _answer(self, key: str, lookup: Lookup) -> None:
        try:
            self._inbox.hold(self._answered, lookup, self._find(key))
        except sqlite3.Error as exc:
            self._recover(lookup, exc)

    def _find(self, key: str) -> Entry | None:
        found = self._connection().execute(_FIND, (hash_of(key),)).fetchone()
        if found is None:
            return None
        row, sealed = found
        entry = unseal(sealed, key)
        if entry is None:
            self._writer.discard(row, sealed)
        return entry

    def _connection(self) -> sqlite3.Connection:
        current = self._writer.generation
        if current == 0:
            raise sqlite3.OperationalError("the cache file is not open")
        if self._database is None or current != self._generation:
            self._close()
            self._generation = current
            self._database = sqlite3.connect(self._address, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        return self._database

    def _recover(self, lookup: Lookup, error: sqlite3.Error) -> None:
        self._close()
        if self._writer.renewing or self._writer.generation not in {0, self._generation}:
            self._inbox.hold(self._answered, lookup, None)  # the file was replaced under our hands, by an empty one
            return
        self._inbox.hold(self._failed, lookup, str(error))
        if is_broken(error):
            self._writer.distrust(self._generation, str(error))

    def _close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):  # it goes either way
                self._database.close()
            self._database = None

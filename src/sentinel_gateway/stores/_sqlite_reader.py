"""The disk tier's reading side: one thread, one connection that can neither write nor checkpoint.

The event loop never touches the disk, so a frozen one can't freeze it. The price is two switches of threads: a miss takes 32 us
of CPU when alone, of which SQLite has 5, and 14 us with 8 in flight, which share the switches. A hit takes 14 us more, to be
read and proven. Questions are read in pages, and a look-up that waits cuts a page short.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentinel_gateway.core import browsing
from sentinel_gateway.core.browsing import Place, View
from sentinel_gateway.core.caching import Entry, Head, Selector
from sentinel_gateway.stores import _sqlite_pages as pages
from sentinel_gateway.stores import _sqlite_rows as rows
from sentinel_gateway.stores._inbox import Inbox
from sentinel_gateway.stores._sealing import unseal, unseal_head, unseal_vector
from sentinel_gateway.stores._sqlite_file import BrokenFile, is_broken
from sentinel_gateway.stores._sqlite_writer import Writer

# Cast, since a flipped bit in a row's head makes a number or a text of a blob.
_FIND = "SELECT id, CAST(sealed AS BLOB) FROM replies WHERE hash = ?"
_QUESTIONS = "SELECT id, CAST(head AS BLOB), CAST(vector AS BLOB) FROM questions WHERE id > ? ORDER BY id"

BUSY_SECONDS: Final = 0.05
"""How long it waits where the writer is just opening or closing the file."""

TOGETHER: Final = 16
"""Answers given to the event loop at once, where more questions wait: waking it for each would double what a look-up costs."""

PAGE_ROWS: Final = 500
ROWS_AT_ONCE: Final = 16
BREATH: Final = 1e-5
"""Seconds to sleep after so many rows. Without it the event loop would get the interpreter only every 5 ms: SQLite lets go of it
at each row, but so briefly that nobody else wakes in time."""

Lookup = asyncio.Future[Any]
"""Who waits for what a question finds; None is nothing, also where the file has just been replaced by an empty one."""


class Page(NamedTuple):
    """Some questions with their vectors; `last` is the row after which the next page begins, None at the end."""

    heads: list[tuple[Head, bytes | None]]
    last: int | None


class Reader:
    """Answers questions in order of asking; `answered` and `failed` are called on the event loop."""

    def __init__(
        self,
        path: Path,
        *,
        writer: Writer,
        inbox: Inbox,
        answered: Callable[[Lookup, Any], None],
        failed: Callable[[Lookup, str], None],
    ) -> None:
        self._address = f"{path.as_uri()}?mode=ro"
        self._writer = writer
        self._inbox = inbox
        self._answered = answered
        self._failed = failed
        self._questions: queue.SimpleQueue[tuple[Callable[[], object], Lookup] | None] = queue.SimpleQueue()
        self._database: sqlite3.Connection | None = None
        self._generation = 0
        self.ended = asyncio.Event()
        threading.Thread(target=self._run, name="sentinel-cache-reader", daemon=True).start()

    def ask(self, question: Callable[[], object], lookup: Lookup) -> None:
        """Have `question`, which is one of the methods below with what it needs, asked on the thread."""
        self._questions.put((question, lookup))

    def stop(self) -> None:
        """Answer what was asked, then end: `ended` is set."""
        self._questions.put(None)

    # On the thread itself.

    def find(self, key: str, hashed: int) -> Entry | None:
        found = self._connection().execute(_FIND, (hashed,)).fetchone()
        if found is None:
            return None
        row, sealed = found
        entry = unseal(sealed, key)
        if entry is None:
            self._writer.discard(partial(rows.discard, row=row, sealed=sealed))
        return entry

    def page(self, after: int, *, model: str, now: float) -> Page:
        """The questions behind this row that have not expired, each with the vector that `model` made of it."""
        self._inbox.announce()  # what was found before does not wait for a page
        heads: list[tuple[Head, bytes | None]] = []
        with contextlib.closing(self._connection().execute(_QUESTIONS, (after,))) as found:
            for read, (row, sealed, vector) in enumerate(found, 1):
                if row <= after:
                    raise BrokenFile("the rows of the questions lead back")
                after = row
                head = unseal_head(sealed)
                if head is None:
                    self._writer.discard(partial(rows.discard_question, row=row, head=sealed))
                elif head.expires > now:
                    heads.append((head, self._vector(row, vector, head=head, model=model)))
                if read % ROWS_AT_ONCE == 0:
                    time.sleep(BREATH)
                if read == PAGE_ROWS or not self._questions.empty():
                    return Page(heads, after)
        return Page(heads, None)

    def browse(self, view: View, now: float, *, after: Place | None, most: int) -> browsing.Page:
        """A page of entries; a look-up that waits cuts it short."""
        self._inbox.announce()
        wanted = lambda: not self._questions.empty()  # noqa: E731 - no longer than its name
        return pages.page(self._connection(), view, now, after=after, most=most, is_wanted=wanted)

    def select(self, selector: Selector, now: float, *, after: Place | None, sample: int) -> pages.Part:
        """Some of what a clear would remove: look-ups have their turn before the rest."""
        self._inbox.announce()
        return pages.select(self._connection(), selector, now, after=after, sample=sample)

    def _vector(self, row: int, sealed: bytes | None, *, head: Head, model: str) -> bytes | None:
        if sealed is None:
            return None
        kept = unseal_vector(sealed, head.key)
        if kept is None:
            self._writer.discard(partial(rows.discard_vector, row=row, vector=sealed))
            return None
        return kept.vector if kept.model == model else None

    def _run(self) -> None:
        held = 0
        while (asked := self._questions.get()) is not None:
            question, lookup = asked
            if not lookup.done():  # given up: after a freeze the queue is full of these
                self._answer(question, lookup)
                held += 1
            if held >= TOGETHER or self._questions.empty():
                self._inbox.announce()
                held = 0
        self._close()
        self._inbox.send(self.ended.set)

    def _answer(self, question: Callable[[], object], lookup: Lookup) -> None:
        try:
            self._inbox.hold(self._answered, lookup, question())
        except sqlite3.Error as exc:
            self._recover(lookup, exc)

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

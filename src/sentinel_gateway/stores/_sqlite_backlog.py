"""What stands before the disk tier's writer: what is to be written and errands, in order, bounded by count and bytes.

The event loop adds without a lock and never waits; the writer's thread takes in batches.
"""

import sqlite3
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sentinel_gateway.core.caching import Entry
from sentinel_gateway.stores._sealing import KeptVector

BATCH_ROWS: Final = 1024
"""In one transaction: a page of an index that many of them touch is written once for all."""
BATCH_SECONDS: Final = 0.2
"""An entry waits so long for others: to commit eight by themselves takes nearly twice as long for each as to commit fifty."""

Job = Callable[[sqlite3.Connection], int]
Item = Entry | KeptVector
"""What is written, many in one transaction."""


class Errand(NamedTuple):
    """Something to do between what is written, and who waits for it."""

    job: Job
    future: Future[int] | None = None


class Backlog:
    """A queue from the event loop (and the reader's thread, for errands) to the writer's thread."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._queue: deque[Item | Errand] = deque()
        self._filled = threading.Event()
        self._urgent = threading.Event()
        self._bytes_in = 0  # counted by the event loop alone,
        self._bytes_out = 0  # and this one by the writer alone: so neither needs a lock

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._max_entries

    def take(self, item: Item) -> bool:
        """False if there is no room; then nothing was taken."""
        size = _size(item)
        if len(self._queue) >= self._max_entries or self._bytes_in - self._bytes_out + size > self._max_bytes:
            return False
        self._bytes_in += size
        self._queue.append(item)
        if not self._filled.is_set():
            self._filled.set()
        elif len(self._queue) >= BATCH_ROWS:
            self._urgent.set()
        return True

    def add(self, errand: Errand) -> None:
        """Never refused; what stands before it is done at once."""
        self._queue.append(errand)
        self.hurry()

    def hurry(self) -> None:
        """Don't wait for a batch to fill."""
        self._urgent.set()
        self._filled.set()

    def wait(self, seconds: float) -> None:
        """By the writer: until a batch is ready, at most so long if nothing comes at all."""
        if self._filled.wait(seconds):
            self._urgent.wait(BATCH_SECONDS)
        # Cleared before the queue is read: what comes later sets them again.
        self._filled.clear()
        self._urgent.clear()

    def drain(self) -> Iterator[list[Item] | Errand]:
        """By the writer: what stands there now, items in batches."""
        waiting = len(self._queue)
        while waiting > 0:
            first = self._queue.popleft()
            if isinstance(first, Errand):
                waiting -= 1
                yield first
            else:
                batch = self._fill([first], min(waiting, BATCH_ROWS))
                waiting -= len(batch)
                yield batch

    def _fill(self, batch: list[Item], size: int) -> list[Item]:
        while len(batch) < size and not isinstance(item := self._queue[0], Errand):
            self._queue.popleft()
            batch.append(item)
        self._bytes_out += sum(map(_size, batch))
        return batch


def _size(item: Item) -> int:
    return len(item.body) + len(item.text) if isinstance(item, Entry) else len(item.vector)

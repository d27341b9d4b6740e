"""A bounded queue and the one thread that empties it: how anything is written that no request may wait for.

If the output is slow or stuck, the queue fills, and what comes then is dropped and counted. How many that were is told once,
when something gets through again.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

CAPACITY: Final = 10_000
"""Items; about 10 MB at worst."""
BLOCK: Final = 500
"""Items in one write."""
GATHER: Final = 0.1
"""Seconds between the first item and its write, in which others join it."""
FLUSH: Final = 2.0
"""Seconds that closing waits for an output that may be stuck."""

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Hands blocks of items to `write`, which returns how many of them were lost.

    `put` may be called from any thread; it never blocks and never raises. `tell` is told, in the writer's thread, how many were
    lost, as soon as a round has ended; False if that could not be told either. `close` gives up after `flush` seconds.
    """

    def __init__(
        self, write: Callable[[list[T]], int], tell: Callable[[int], bool], *, name: str, capacity: int, flush: float
    ) -> None:
        self._write = write
        self._tell = tell
        self._capacity = capacity
        self._flush = flush
        self._queue: deque[T] = deque()
        self._lost = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self.closing = threading.Event()
        self.give_up_at = math.inf
        """By `time.monotonic`: what is not written by then is not written."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"{len(self._queue)} waiting, {self._lost} lost"

    def put(self, item: T) -> None:
        """Have `item` written."""
        if len(self._queue) >= self._capacity:
            self._lose(1)
            return
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count

    def close(self) -> bool:
        """Write what is queued and end the thread; False if the output is stuck, and was left to itself."""
        self.give_up_at = time.monotonic() + self._flush
        self.closing.set()
        self._wake.set()
        self._thread.join(self._flush)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.closing.is_set():
            self._wake.wait()
            self.closing.wait(GATHER)
            self._wake.clear()  # before the queue is read: what comes after this wakes us again
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._queue:
            self._lose(self._write([self._queue.popleft() for _ in range(min(BLOCK, len(self._queue)))]))
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost and not self._tell(lost):
            self._lose(lost)

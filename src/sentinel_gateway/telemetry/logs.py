"""Writing the log: the path leaves values in a bounded queue, one background thread turns them into lines and writes them.

Nothing that happens to the output reaches a request: if it is slow or stuck, the queue fills and further items are dropped
and counted; if it is closed, lines are lost and counted. The count is logged once lines get through again.
"""

import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.lines import LEVELS, Event, Format, Item, Level, Value, level_of

CAPACITY: Final = 10_000
"""Items; about 10 MB at worst."""
BLOCK: Final = 500
"""Lines in one write."""
GATHER: Final = 0.05
"""Seconds between the first item and its write, in which others join it."""
FLUSH: Final = 2.0
"""Seconds that closing waits for an output that may be stuck."""


class LogWriter:
    """Writes to the open file `fd`, which stays its owner's. `clock` gives the Unix time of events.

    `request` and `event` may be called from any thread; they never block and never raise. Items below `level` are left out.
    """

    def __init__(
        self, fd: int, line: Format, *, level: Level, clock: Callable[[], float], capacity: int = CAPACITY, flush: float = FLUSH
    ) -> None:
        self._fd = fd
        self._line = line
        self._rank = LEVELS[level]
        self._clock = clock
        self._capacity = capacity
        self._flush = flush
        self._give_up_at = math.inf
        self._queue: deque[Item] = deque()
        self._lost = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sentinel-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter fd={self._fd} {len(self._queue)} waiting, {self._lost} lost>"

    @property
    def debugging(self) -> bool:
        """Are debug lines written?"""
        return self._rank <= LEVELS["debug"]

    def request(self, record: Record) -> None:
        """Log a finished request."""
        self._put(record)

    def event(self, name: str, fields: Mapping[str, Value], *, level: Level = "info", trace: str = "") -> None:
        """Log a change of state. `trace` is a traceback, which belongs into the log only while `debugging`."""
        self._put(Event(self._clock(), level, name, fields, trace))

    def _put(self, item: Item) -> None:
        if len(self._queue) >= self._capacity:
            self._lose(1)
            return
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count

    def close(self) -> None:
        """Write what is queued and end the thread; an output that is stuck is given up after `flush` seconds."""
        self._give_up_at = time.monotonic() + self._flush
        self._closing.set()
        self._wake.set()
        self._thread.join(self._flush)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(GATHER)
            self._wake.clear()  # before the queue is read: what comes after this wakes us again
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._queue:
            self._lose(self._write([self._queue.popleft() for _ in range(min(BLOCK, len(self._queue)))]))
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost and self._write([Event(self._clock(), "warning", "log_lines_lost", {"count": lost})]):
            self._lose(lost)

    def _write(self, items: list[Item]) -> int:
        """Write a block; how many of its lines the output refused."""
        lines = [self._line(item) for item in items if LEVELS[level_of(item)] >= self._rank]
        try:
            self._send(memoryview(b"\n".join([*lines, b""])))
        except OSError:
            return len(lines)
        return 0

    def _send(self, rest: memoryview) -> None:
        while rest:
            if time.monotonic() >= self._give_up_at:
                raise TimeoutError
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares our terminal may have made it non-blocking
                self._await_room()

    def _await_room(self) -> None:
        poll = select.poll()  # unlike select(), for descriptors of any number
        poll.register(self._fd, select.POLLOUT)
        poll.poll(GATHER * 1000)

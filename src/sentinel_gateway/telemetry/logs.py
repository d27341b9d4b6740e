"""Writing the log: the path leaves values in a queue, one background thread turns them into lines and writes them.

Nothing that happens to the output reaches a request: lines that a slow, stuck or closed output does not take are lost and
counted. The count is logged once lines get through again.
"""

import os
import select
import time
from collections.abc import Callable, Mapping

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.background import CAPACITY, FLUSH, GATHER, BackgroundWriter
from sentinel_gateway.telemetry.lines import LEVELS, Event, Format, Item, Level, Value, level_of


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
        self._writer = BackgroundWriter[Item](self._write, self._tell, name="sentinel-log", capacity=capacity, flush=flush)

    def __repr__(self) -> str:
        return f"<LogWriter fd={self._fd} {self._writer!r}>"

    @property
    def debugging(self) -> bool:
        """Are debug lines written?"""
        return self._rank <= LEVELS["debug"]

    def request(self, record: Record) -> None:
        """Log a finished request."""
        self._writer.put(record)

    def event(self, name: str, fields: Mapping[str, Value], *, level: Level = "info", trace: str = "") -> None:
        """Log a change of state. `trace` is a traceback, which belongs into the log only while `debugging`."""
        self._writer.put(Event(self._clock(), level, name, fields, trace))

    def close(self) -> None:
        """Write what is queued and end the thread; an output that is stuck is given up after a while."""
        self._writer.close()

    def _tell(self, lost: int) -> bool:
        return not self._write([Event(self._clock(), "warning", "log_lines_lost", {"count": lost})])

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
            if time.monotonic() >= self._writer.give_up_at:
                raise TimeoutError
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares our terminal may have made it non-blocking
                self._await_room()

    def _await_room(self) -> None:
        poll = select.poll()  # unlike select(), for descriptors of any number
        poll.register(self._fd, select.POLLOUT)
        poll.poll(GATHER * 1000)

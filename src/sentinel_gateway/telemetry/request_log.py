"""The request log of seed 000: a file with one line of fixed width for each request that named a model.

    2026-02-21 10:00:00 | MISS          | llama-3.3-70b-versatile       |      423 tokens | $0.00025

A thread of its own writes it, into a file that stays open. Before each block it looks whether the path still leads there: a log
that was renamed is followed by a new one, a log that was cut short goes on at its beginning. A disk that takes nothing is tried
again until it does; meanwhile lines wait, as many as the queue holds, and what is more is dropped and counted. What is wrong is
told once, and so is its end. A file that ends amid a line, as one may that was written when the power went, gets its end first.
"""

import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from sentinel_gateway.core.chat import MAX_TOKENS
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.telemetry.background import CAPACITY, FLUSH, BackgroundWriter
from sentinel_gateway.telemetry.lines import clean

RETRY: Final = 0.5
"""Seconds between two attempts to write to a disk that takes nothing."""
SUCCESSION: Final = 0.2
"""Seconds that a log which was renamed has to be followed by another, before we make one: logrotate makes its own."""
MODEL_WIDTH: Final = 29
OUTCOMES: Final = {
    "exact": "EXACT_HIT",
    "semantic": "SEMANTIC_HIT",
    "miss": "MISS",
    "coalesced": "COALESCED",
    "bypass": "BYPASS",
}
FREE: Final = frozenset({"exact", "semantic", "coalesced"})
"""What no provider was asked for, or for somebody else: seed 000 tells of no tokens then."""
PERMISSIONS: Final = 0o640


def request_line(record: Record) -> bytes:
    """A request as a line, with its end: of the moment when it ended, in UTC. What a failure has cost is told, too."""
    outcome = "ERROR" if record.error else OUTCOMES.get(record.outcome, "ERROR")
    if record.outcome in FREE:
        told = _free(outcome, record.model)
    else:
        tokens = min(record.prompt_tokens + record.completion_tokens, MAX_TOKENS)
        told = _told(outcome, record.model, tokens, record.cost)
    return f"{_second(int(record.at + record.seconds))} | {told}\n".encode()


@lru_cache(maxsize=8)
def _second(at: int) -> str:
    """Lines of a busy gateway come by the thousand a second, and this is dearer than all else in one."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


@lru_cache(maxsize=256)
def _free(outcome: str, model: str) -> str:
    """All hits of a model say the same; of misses nearly each says something else."""
    return _told(outcome, model, 0, 0)


def _told(outcome: str, model: str, tokens: int, cost: int) -> str:
    return f"{outcome:<13} | {_model(model):<29} | {tokens:>8} tokens | ${cost / NANO_PER_USD:.5f}"


@lru_cache(maxsize=256)
def _model(name: str) -> str:
    """At most as wide as its column, and nothing in it that looks like the column's end."""
    shown = clean(name).replace("|", "\\x7c")
    return shown if len(shown) <= MODEL_WIDTH else shown[: MODEL_WIDTH - 1] + "~"


class RequestLog:
    """Writes to `path`, making the file and its folder; raises `ConfigurationError` if it can't.

    `on_event` is told what goes wrong, in a thread. Nothing here blocks or raises once it is open.
    """

    def __init__(
        self, path: Path, on_event: Callable[..., None], *, capacity: int = CAPACITY, flush: float = FLUSH, retry: float = RETRY
    ) -> None:
        self._file = _Appending(path)
        self._on_event = on_event
        self._retry = retry
        self._fault = ""
        try:
            self._file.follow()
        except OSError as exc:
            fault = f"can't write the request log ({exc.strerror}): make it writable for this user, or name another in LOG_PATH"
            raise ConfigurationError([(str(path), fault)]) from exc
        self._writer = BackgroundWriter[Record](
            self._write, self._tell, name="sentinel-request-log", capacity=capacity, flush=flush
        )

    def __repr__(self) -> str:
        return f"<RequestLog {self._file!r} {self._writer!r}>"

    def request(self, record: Record) -> None:
        """Have a request written, if it named a model and asked for an answer."""
        if record.model and (record.outcome != "none" or record.error):
            self._writer.put(record)

    def close(self) -> None:
        """Write what is queued, and end the thread."""
        if self._writer.close():
            self._file.close()

    def _write(self, records: list[Record]) -> int:
        """Write a block, however long that takes; how many of its lines were lost, because the process ends."""
        block, done = b"".join(map(request_line, records)), 0
        while True:
            try:
                if not self._writer.closing.is_set():
                    self._file.await_successor()
                if self._file.follow():
                    done = block.rfind(b"\n", 0, done) + 1  # no file begins amid a line
                while done < len(block):
                    done += self._file.append(block[done:])
            except OSError as exc:
                self._fail(exc)
                if self._writer.closing.is_set():
                    return block.count(b"\n", done)
                self._writer.closing.wait(self._retry)
            else:
                self._recover()
                return 0

    def _fail(self, exc: OSError) -> None:
        if not self._fault:
            self._fault = exc.strerror or type(exc).__name__
            self._on_event("request_log_failed", reason=self._fault)

    def _recover(self) -> None:
        if self._fault:
            self._fault = ""
            self._on_event("request_log_recovered")

    def _tell(self, lost: int) -> bool:
        self._on_event("request_log_lines_lost", count=lost, reason=self._fault or "the file did not take them in time")
        return True


class _Appending:
    """The file that a path leads to, kept open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._held: tuple[int, int] | None = None
        """Which file that is: its device and its number there."""
        self._torn = False
        """It ends amid a line of somebody before us."""

    def __repr__(self) -> str:
        return f"{self._path}"

    def await_successor(self) -> None:
        """Give whoever renamed the file a moment to make the next one."""
        end = time.monotonic() + SUCCESSION
        while not self._path.exists() and time.monotonic() < end:
            time.sleep(SUCCESSION / 20)

    def follow(self) -> bool:
        """Open what the path leads to, if that is another file now, and make it if there is none; raises `OSError`.

        Is nothing of ours in it yet?
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        if self._fd is not None and found is not None and (found.st_dev, found.st_ino) == self._held:
            return not found.st_size
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody reads must not hold us
        self._fd = os.open(self._path, flags, PERMISSIONS)
        opened = os.fstat(self._fd)
        self._held = opened.st_dev, opened.st_ino
        self._torn = stat.S_ISREG(opened.st_mode) and opened.st_size > 0 and self._ends_amid_a_line()
        return True

    def _ends_amid_a_line(self) -> bool:
        try:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # we may be allowed to write it alone
            return False

    def append(self, data: bytes) -> int:
        """Bytes that were taken; raises `OSError`."""
        if self._fd is None:
            raise FileNotFoundError
        if self._torn:
            os.write(self._fd, b"\n")
            self._torn = False
        return os.write(self._fd, data)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

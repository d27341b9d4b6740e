"""A connection to `sentinel.db`: the thread that has it, the lock that all processes share, and what its faults mean."""

import asyncio
import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._worker import Worker

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
Step = Callable[[], T]

DEADLINE: Final = 5.0
LOCK_STEP: Final = 0.01

_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNUSABLE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


class StateConnection:
    """Opened when it is first used, and again when the file was replaced: `make` sees to the file, `prepare` to what is in it.

    Both are called on its thread, `prepare` while nobody else writes. Where others are at the file, it waits `busy` seconds.
    Coroutines raise `StoreDown`, within their deadline.
    """

    def __init__(self, path: Path, make: Callable[[], None], prepare: Job[None], *, name: str, busy: float) -> None:
        self.path = path
        self._busy = busy
        self.opened = 0
        """How many times: each may be another file."""
        self._make = make
        self._prepare = prepare
        self._deadline = DEADLINE
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._worker = Worker(name)

    def __repr__(self) -> str:
        return f"<StateConnection {'open' if self.is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        return self._database is not None

    async def open(self, deadline: float) -> None:
        """Raises `ConfigurationError` where trying again would not help."""
        await self._run(self._connection, deadline)

    async def read(self, job: Job[T]) -> T:
        return await self._use(lambda: self._read(job))

    async def write(self, job: Job[T]) -> T:
        return await self._use(lambda: self._write(job))

    async def close(self) -> None:
        with contextlib.suppress(StoreDown):
            await self._run(self._close, self._deadline)
        self._worker.stop()

    async def _use(self, step: Step[T]) -> T:
        try:
            return await self._run(step, self._deadline)
        except ConfigurationError as exc:  # the file has become unusable since the start
            raise StoreDown(str(exc)) from exc

    async def _run(self, step: Step[T], deadline: float) -> T:
        try:
            async with asyncio.timeout(deadline):
                return await self._worker.run(step)
        except TimeoutError as exc:
            raise StoreDown(f"{self.path} did not answer within {deadline:g} s") from exc
        except (sqlite3.Error, OSError) as exc:
            raise StoreDown(f"{self.path}: {exc}") from exc
        except msgspec.DecodeError as exc:
            raise StoreDown(f"{self.path} holds what this Sentinel can't read ({exc}): run the one that wrote it") from exc

    # On the worker's thread.

    def _connection(self) -> sqlite3.Connection:
        if self._database is not None and self._is_lost():
            self._close()
        if self._database is None:
            try:
                self._database = self._open()
            except (sqlite3.Error, OSError) as exc:
                if fix := _what_helps(exc):
                    raise ConfigurationError([(str(self.path), f"{exc}: {fix}")]) from exc
                raise
        return self._database

    def _open(self) -> sqlite3.Connection:
        self._make()
        database = sqlite3.connect(self.path, isolation_level=None, timeout=self._busy)
        try:
            with self._alone():
                self._prepare(database)
            self._file = self.path.stat()
        except BaseException:  # broad: whatever it is, the connection must not stay open
            database.close()
            raise
        self.opened += 1
        return database

    def _write(self, job: Job[T]) -> T:
        database = self._connection()
        with self._alone():
            database.execute("BEGIN IMMEDIATE")
            try:
                done = job(database)
                database.execute("COMMIT")
            except BaseException:  # broad: whatever stops it, nothing of it is kept; then it is raised again
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            return done

    def _read(self, job: Job[T]) -> T:
        database = self._connection()
        database.execute("BEGIN")  # all its questions see the same state
        try:
            return job(database)
        finally:
            if database.in_transaction:  # some faults end it by themselves
                database.execute("ROLLBACK")

    def _is_lost(self) -> bool:
        """Was the file deleted or replaced? SQLite itself goes on with the old one unawares."""
        try:
            return self._file is None or not os.path.samestat(self._file, self.path.stat())
        except OSError:
            return True

    def _close(self) -> None:
        if self._database is not None:
            with self._alone():  # who goes last checkpoints
                self._database.close()
            self._database = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody else writes, in this process or another; `BlockingIOError` where somebody does for too long."""
        if self._lock is None:
            self._lock = os.open(self.path.with_name("sentinel.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + self._busy
        while not _taken(self._lock):
            if time.monotonic() > end:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process has been writing to it for too long")
            time.sleep(LOCK_STEP)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _what_helps(error: Exception) -> str | None:
    """What the operator can do about it; None where waiting may be enough."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python's module raised the error by itself
    if code is not None and code & 0xFF in _BROKEN:
        return "put it back from a backup"
    if (code is not None and code & 0xFF in _UNUSABLE) or (isinstance(error, OSError) and error.errno in _FORBIDDEN):
        return "make the file and its folder writable for this user"
    return None

"""`sentinel.db`: what must not be lost. How the file is made, opened, recognised and brought up to date, and who may write it.

Unlike the cache it is never replaced: a file that can't be trusted stops the start, with a sentence. Several processes use it at
once: a gateway, and the command line. SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint
at the same instant, so whoever opens, writes or closes it holds a lock beside it; readers need none.
"""

import asyncio
import contextlib
import errno
import fcntl
import hmac
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._worker import Worker

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

APPLICATION: Final = 1397184339
"""Written into the file's header ("SGWS")."""
BUSY_SECONDS: Final = 3.0
"""How long another process may keep us waiting."""
DEADLINE: Final = 5.0
OPEN_DEADLINE: Final = 30.0
"""Opening reads the whole file once: 0.8 s a GiB."""
LOCK_STEP: Final = 0.01

_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNUSABLE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
_HABITS: Final = (
    "PRAGMA synchronous = FULL",  # a commit is on the disk, also when the power goes
    "PRAGMA cell_size_check = ON",
    "PRAGMA recursive_triggers = ON",  # else REPLACE would delete unseen by triggers
    "PRAGMA trusted_schema = OFF",
)

_FIRST: Final = """
BEGIN IMMEDIATE;
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    place TEXT NOT NULL UNIQUE,
    rights BLOB NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    revoked REAL,
    successor TEXT,
    sequence INTEGER NOT NULL
);
CREATE INDEX keys_of_tenant ON keys (tenant, place);
CREATE INDEX keys_by_change ON keys (sequence);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    tenant TEXT,
    before BLOB,
    after BLOB
);
CREATE INDEX audit_of_tenant ON audit (tenant, id);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
PRAGMA application_id = 1397184339;
PRAGMA user_version = 1;
COMMIT;
"""
MIGRATIONS: Final = (_FIRST,)
"""Each brings the file from the version of its place to the next."""


class StateFile:
    """The file, and the one thread that works on it for this process. Coroutines raise `StoreDown`, within their deadline."""

    def __init__(self, folder: Path, *, secret: bytes) -> None:
        self.path = folder.absolute() / "sentinel.db"
        self.generation = 0
        """How many times the file was opened: each may be another one."""
        self._seal = hmac.digest(secret, b"sentinel: the secret of this database", "sha256")
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._made = False
        self._worker = Worker("sentinel-state")

    @classmethod
    async def open(cls, folder: Path, *, secret: bytes) -> Self:
        """With or without the file, which may be busy now and is tried again at each use.

        Raises `ConfigurationError` where trying again would not help: damaged, written by a newer Sentinel, of another program or
        with another secret, or in a folder that can't be written.
        """
        state = cls(folder, secret=secret)
        try:
            await state._run(state._connection, OPEN_DEADLINE)
        except ConfigurationError:
            await state.close()
            raise
        except StoreDown:
            pass
        return state

    async def read(self, job: Job[T]) -> T:
        """Have `job` ask the database. It decodes what it finds, so that a row which can't be read is `StoreDown` as well."""
        return await self._use(lambda: job(self._connection()))

    async def write(self, job: Job[T]) -> T:
        """Have `job` change the database: all of it or, if it raises, nothing. It is on the disk when this returns.

        After `StoreDown` for lack of time it may or may not have happened.
        """
        return await self._use(lambda: self._write(job))

    async def close(self) -> None:
        with contextlib.suppress(StoreDown):
            await self._run(self._close, DEADLINE)
        self._worker.stop()

    def __repr__(self) -> str:
        return f"<StateFile {self.path} {'open' if self._database else 'without its file'}>"

    async def _use(self, job: Callable[[], T]) -> T:
        try:
            return await self._run(job, DEADLINE)
        except ConfigurationError as exc:  # the file has become unusable since the start
            raise StoreDown(str(exc)) from exc

    async def _run(self, job: Callable[[], T], deadline: float) -> T:
        try:
            async with asyncio.timeout(deadline):
                return await self._worker.run(job)
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
        database = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            with self._alone():
                self._prepare(database)
            self._opened = self.path.stat()
        except BaseException:  # broad: whatever it is, the connection must not stay open
            database.close()
            raise
        self.generation += 1
        return database

    def _make(self) -> None:
        """The file, readable by this user only from its first byte on; once. What vanishes later was not meant to begin anew."""
        if self._made and not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, "it is gone: put it back, or start again to begin with no keys at all")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # Never opened by us when it exists: closing any descriptor of a file drops the locks that SQLite has on it.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._made = True

    def _prepare(self, database: sqlite3.Connection) -> None:
        version, application, tables = (
            _ask(database, question)
            for question in ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_schema")
        )
        if tables and application != APPLICATION:
            raise self._refusal("is a database that Sentinel did not make: name another data folder")
        if version > len(MIGRATIONS):
            known = len(MIGRATIONS)
            raise self._refusal(f"was written by a newer Sentinel (schema {version}; this one knows {known}): run that one")
        if (verdict := _ask(database, "PRAGMA quick_check(1)")) != "ok":
            raise self._refusal(f"is damaged ({verdict}): put it back from a backup")
        if _ask(database, "PRAGMA journal_mode = WAL") != "wal":
            raise sqlite3.OperationalError("the file system can't hold a write-ahead log")
        for habit in _HABITS:
            database.execute(habit).fetchall()
        for migration in MIGRATIONS[version:]:
            database.executescript(migration)
        self._check_secret(database)

    def _check_secret(self, database: sqlite3.Connection) -> None:
        database.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (self._seal,))
        kept: bytes = _ask(database, "SELECT value FROM facts WHERE name = 'secret'")
        if not hmac.compare_digest(kept, self._seal):
            fix = "set SENTINEL_SECRET to the one before, or put the file 'secret' back from a backup"
            raise self._refusal(f"its keys were made with another secret, so none would work: {fix}")

    def _refusal(self, sentence: str) -> ConfigurationError:
        return ConfigurationError([(str(self.path), sentence)])

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

    def _is_lost(self) -> bool:
        """Was the file deleted or replaced? SQLite itself goes on with the old one unawares."""
        try:
            return self._opened is None or not os.path.samestat(self._opened, self.path.stat())
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
        """While no other process writes; `BlockingIOError` where one does for too long."""
        if self._lock is None:
            self._lock = os.open(self.path.with_name("sentinel.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + BUSY_SECONDS
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


def _ask(database: sqlite3.Connection, question: str) -> Any:
    (answer,) = database.execute(question).fetchone()
    return answer

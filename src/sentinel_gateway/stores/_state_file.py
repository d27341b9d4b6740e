"""`sentinel.db`: what must not be lost. How the file is made, recognised and brought up to date, and how it is read and written.

Unlike the cache it is never replaced: a file that can't be trusted stops the start, with a sentence. Several processes use it at
once: a gateway, and the command line. SQLite before 3.51.3 can corrupt a write-ahead log when two connections write or checkpoint
at the same instant, so whoever opens, writes or closes it holds a lock beside it; readers need none.
"""

import asyncio
import contextlib
import errno
import hmac
import os
import sqlite3
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._state_connection import Job, StateConnection

T = TypeVar("T")

APPLICATION: Final = 1397184339
"""Written into the file's header ("SGWS")."""
OPEN_DEADLINE: Final = 30.0
"""Each connection that is opened reads the whole file once: 0.8 s a GiB."""
BUSY_SECONDS: Final = 3.0
READ_BUSY_SECONDS: Final = 0.5
"""How long another process may keep us waiting; to read, only one that has the file to itself, and the start waits for it."""

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
_SECOND: Final = """
BEGIN IMMEDIATE;
CREATE TABLE decisions (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    at REAL NOT NULL,
    scope TEXT NOT NULL,
    entry TEXT NOT NULL,
    owner TEXT NOT NULL,
    similarity REAL NOT NULL,
    kind TEXT NOT NULL,
    drawn REAL NOT NULL
);
CREATE INDEX decisions_by_request ON decisions (tenant, request_id);
CREATE INDEX decisions_by_time ON decisions (at);
CREATE TABLE labels (
    decision TEXT NOT NULL,
    source TEXT NOT NULL,
    correct INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (decision, source)
) WITHOUT ROWID;
CREATE INDEX labels_by_time ON labels (at);
CREATE TABLE hours (
    hour INTEGER NOT NULL,
    scope TEXT NOT NULL,
    reached INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    PRIMARY KEY (hour, scope)
) WITHOUT ROWID;
CREATE TABLE stances (scope TEXT PRIMARY KEY, level INTEGER NOT NULL, since REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 2;
COMMIT;
"""
_THIRD: Final = """
BEGIN IMMEDIATE;
ALTER TABLE decisions ADD COLUMN realm TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN weighed BLOB;
CREATE TABLE learners (realm TEXT PRIMARY KEY, at REAL NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 3;
COMMIT;
"""
_FOURTH: Final = """
PRAGMA secure_delete = ON;
BEGIN IMMEDIATE;
ALTER TABLE decisions ADD COLUMN budgets TEXT NOT NULL DEFAULT '';
DELETE FROM learners;
PRAGMA user_version = 4;
COMMIT;
PRAGMA secure_delete = OFF;
"""
"""What learners kept until then could not be read any more, and names words by checksums without a key."""
_FIFTH: Final = """
BEGIN IMMEDIATE;
CREATE TABLE accounts (
    account TEXT NOT NULL,
    node TEXT NOT NULL,
    ends INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (account, node)
) WITHOUT ROWID;
CREATE INDEX accounts_by_end ON accounts (ends);
PRAGMA user_version = 5;
COMMIT;
"""
_SIXTH: Final = """
BEGIN IMMEDIATE;
CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, ends REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE alert_board (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE alert_silences (rule TEXT PRIMARY KEY, ends REAL NOT NULL, actor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE alert_history (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    rule TEXT NOT NULL,
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX alert_history_by_time ON alert_history (at);
CREATE TABLE alert_letters (
    id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    at REAL NOT NULL,
    due REAL NOT NULL,
    tries INTEGER NOT NULL,
    message BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX alert_letters_of_channel ON alert_letters (channel, at);
PRAGMA user_version = 6;
COMMIT;
"""
MIGRATIONS: Final = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)
"""Each brings the file from the version of its place to the next."""


class StateFile:
    """The file, with a connection to read and one to write: who waits to write, or for the disk, holds up nobody who reads.

    Coroutines raise `StoreDown`, within their deadline.
    """

    def __init__(self, folder: Path, *, secret: bytes) -> None:
        self.path = folder.absolute() / "sentinel.db"
        self._seal = hmac.digest(secret, b"sentinel: the secret of this database", "sha256")
        self._made = False
        self._reading = StateConnection(
            self.path, self._make, self._prepare_to_read, name="sentinel-state-read", busy=READ_BUSY_SECONDS
        )
        self._writing = StateConnection(self.path, self._make, self._prepare, name="sentinel-state-write", busy=BUSY_SECONDS)

    @classmethod
    async def open(cls, folder: Path, *, secret: bytes) -> Self:
        """With or without the file, which may be busy now and is tried again at each use.

        Raises `ConfigurationError` where trying again would not help: damaged, written by a newer Sentinel, of another program or
        with another secret, or in a folder that can't be written.
        """
        state = cls(folder, secret=secret)
        try:
            await state._reading.open(OPEN_DEADLINE)
            await state._writing.open(OPEN_DEADLINE)
        except ConfigurationError:
            await state.close()
            raise
        except StoreDown:
            pass
        return state

    def history(self, _: object) -> int:
        """How many times the file was opened to be read: each may be another one."""
        return self._reading.opened

    async def read(self, job: Job[T]) -> T:
        """Have `job` ask the database. It decodes what it finds, so that a row which can't be read is `StoreDown` as well."""
        return await self._reading.read(job)

    async def write(self, job: Job[T]) -> T:
        """Have `job` change the database: all of it or, if it raises, nothing. It is on the disk when this returns.

        After `StoreDown` for lack of time it may or may not have happened.
        """
        return await self._writing.write(job)

    async def close(self) -> None:
        await asyncio.gather(self._reading.close(), self._writing.close())

    def __repr__(self) -> str:
        return f"<StateFile {self.path} {'open' if self._reading.is_open else 'without its file'}>"

    # On the thread of the connection that is being opened; what changes the file, while no other one writes.

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

    def _prepare_to_read(self, database: sqlite3.Connection) -> None:
        self._prepare(database)
        database.execute("PRAGMA query_only = ON")  # a job that writes would do it without the lock

    def _check_secret(self, database: sqlite3.Connection) -> None:
        database.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (self._seal,))
        kept: bytes = _ask(database, "SELECT value FROM facts WHERE name = 'secret'")
        if not hmac.compare_digest(kept, self._seal):
            fix = "set SENTINEL_SECRET to the one before, or put the file 'secret' back from a backup"
            raise self._refusal(f"its keys were made with another secret, so none would work: {fix}")

    def _refusal(self, sentence: str) -> ConfigurationError:
        return ConfigurationError([(str(self.path), sentence)])


def _ask(database: sqlite3.Connection, question: str) -> Any:
    (answer,) = database.execute(question).fetchone()
    return answer

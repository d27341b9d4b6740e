"""The table of idempotency keys: functions over a connection, each one transaction.

A row without an outcome is one that is being worked on, or was when the process ended.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from sentinel_gateway.core.idempotency import LIFETIME, Claim, Held, Outcome, Quota

CREATE: Final = """
CREATE TABLE IF NOT EXISTS idempotency (
    id INTEGER PRIMARY KEY,
    mark BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    tenant TEXT NOT NULL,
    created REAL NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    outcome BLOB
);
CREATE INDEX IF NOT EXISTS idempotency_by_tenant ON idempotency (tenant, created, size);
CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (created);
"""
SWEPT_AT_ONCE: Final = 100
"""Expired rows that a new claim takes away: more than come, and few enough to cost it little."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Outcome).decode


def claim(database: sqlite3.Connection, wanted: Claim, now: float) -> Held | None:
    """None if it is the caller's from now on."""
    with _transaction(database):
        database.execute(
            "DELETE FROM idempotency WHERE id IN (SELECT id FROM idempotency WHERE created <= ? LIMIT ?)",
            (now - LIFETIME, SWEPT_AT_ONCE),
        )
        query = "SELECT fingerprint, outcome FROM idempotency WHERE mark = ? AND created > ?"
        found = database.execute(query, (wanted.mark, now - LIFETIME)).fetchone()
        if found is None:
            insert = "INSERT OR REPLACE INTO idempotency (mark, fingerprint, tenant, created) VALUES (?, ?, ?, ?)"
            database.execute(insert, (wanted.mark, wanted.fingerprint, wanted.tenant, now))
            return None
    fingerprint, outcome = found
    return Held(fingerprint, None if outcome is None else _decode(outcome))


def keep(database: sqlite3.Connection, held: Claim, outcome: Outcome, quota: Quota) -> None:
    """What came of it. Without effect if the claim has expired meanwhile."""
    packed = _encode(outcome)
    with _transaction(database):
        update = "UPDATE idempotency SET outcome = ?, size = ? WHERE mark = ? AND fingerprint = ? AND outcome IS NULL"
        database.execute(update, (packed, len(packed), held.mark, held.fingerprint))
        _make_room(database, held, quota)


def _make_room(database: sqlite3.Connection, held: Claim, quota: Quota) -> None:
    keys, size = database.execute("SELECT count(*), total(size) FROM idempotency WHERE tenant = ?", (held.tenant,)).fetchone()
    query = "SELECT id, size FROM idempotency WHERE tenant = ? AND outcome IS NOT NULL AND mark != ? ORDER BY created, id"
    oldest = database.execute(query, (held.tenant, held.mark)) if keys > quota.keys or size > quota.bytes else ()
    gone = []
    for number, freed in oldest:
        if keys <= quota.keys and size <= quota.bytes:
            break
        gone.append((number,))
        keys, size = keys - 1, size - freed
    database.executemany("DELETE FROM idempotency WHERE id = ?", gone)


def release(database: sqlite3.Connection, held: Claim) -> None:
    """Nothing came of it: the key is free again."""
    with _transaction(database):
        database.execute(
            "DELETE FROM idempotency WHERE mark = ? AND fingerprint = ? AND outcome IS NULL", (held.mark, held.fingerprint)
        )


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")

"""Entries, questions and vectors as rows, and every statement that changes them. Plain functions over the writer's connection."""

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain
from typing import Final

from sentinel_gateway.core.browsing import FOREVER
from sentinel_gateway.core.caching import Entry, Selector
from sentinel_gateway.stores._sealing import KeptVector, seal
from sentinel_gateway.stores._sqlite_backlog import Item

ROWS_AT_ONCE: Final = 64
"""Entries put in by one statement. To make their rows takes 0.15 ms, for which the event loop may have to wait."""
BYTES_AT_ONCE: Final = 1 << 17
"""Of their bodies: it waits also while these are copied."""
STEP_ROWS: Final = 500
"""Rows deleted in one transaction: some 8 ms, so that nothing waits long behind it."""
DUE_STEP: Final = 600.0
"""Seconds. Expired rows leave up to so much later: with exact times each put would touch one more page (8 us)."""
PINNED: Final = FOREVER // DUE_STEP
"""As `due`: from here on, a row never leaves by itself."""
AHEAD: Final = 60.0
"""Seconds by which an entry may be newer than now: clocks are put right by a little all the time."""
LABEL_BYTES: Final = 8
LABELS_KEPT: Final = 1024
"""Most entries have the same few tenants, models and writers."""
HASHES_AT_ONCE: Final = 256
"""Whoever goes through them holds up the event loop for 0.1 ms."""
HASHES_KEPT: Final = 4096
"""A miss needs the hash of its key twice: looked up, and written up to some thousand misses later."""
FREE_PAGES_KEPT: Final = 1024
"""Free pages up to this (4 MiB) stay in the file for the next entries."""

_Blob = bytearray
"""What goes into the file, as the only kind of bytes that Python's module binds without first asking what it could be adapted
to: that would cost a tenth of a put for each."""
_Row = tuple[int, float, float, _Blob, _Blob]

# Tried before the one that replaces, since most are new: a statement that leaves what it has done where it fails keeps no copies
# of the pages that it changes, and takes a tenth less.
_ADD = "INSERT OR FAIL INTO replies (hash, due, created, labels, sealed) VALUES (?, ?, ?, ?, ?)"
_REPLACE = _ADD.replace("FAIL", "REPLACE")
_ASK = "INSERT INTO questions (id, head) SELECT id, column2 FROM (VALUES (?, ?)) CROSS JOIN replies ON hash = column1"
_KEEP = "UPDATE questions SET vector = ? WHERE id = (SELECT id FROM replies WHERE hash = ?)"
_DELETE = "DELETE FROM replies WHERE id = ?"
_DISCARD = "DELETE FROM replies WHERE id = ? AND CAST(sealed AS BLOB) IS ?"
_DISCARD_QUESTION = "DELETE FROM questions WHERE id = ? AND CAST(head AS BLOB) IS ?"
_DISCARD_VECTOR = "UPDATE questions SET vector = NULL WHERE id = ? AND CAST(vector AS BLOB) IS ?"
_DUE = "SELECT id FROM replies WHERE due < ? LIMIT ?"
_AHEAD = "SELECT id FROM replies INDEXED BY by_age WHERE created > ? AND due < ? LIMIT ?"
_COUNT_AHEAD = "SELECT count(*) FROM replies INDEXED BY by_age WHERE created > ? AND due < ?"
_OLDEST = "SELECT id FROM replies WHERE due < ? OR typeof(due) <> 'real' ORDER BY created LIMIT ?"
# As one row, since SQLite takes the interpreter back for each, and where the event loop is busy that can take 5 ms.
_HASHES = """
SELECT group_concat(printf('%016x', hash), '') FROM (SELECT hash FROM replies WHERE hash > ? ORDER BY hash LIMIT ?)
"""
_COUNT = "SELECT count(*) FROM replies"
_PAGES = "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
# The same sentence as Selector.matches, sum for sum: rearranged, a float's rounding would decide.
_SELECT = """
SELECT id FROM replies INDEXED BY by_age
WHERE (:tenant IS NULL OR instr(labels, :tenant) > 0)
  AND (:namespace IS NULL OR instr(labels, :namespace) > 0)
  AND (:model IS NULL OR instr(labels, :model) > 0)
  AND (:tag IS NULL OR instr(labels, :tag) > 0)
  AND (:writer IS NULL OR instr(labels, :writer) > 0)
  AND (:older_than IS NULL OR :now - created > :older_than)
"""
CHOSEN: Final = _SELECT.partition("WHERE")[2]
"""Of the parameters that `asking` makes: does the selector match the row?"""
_SELECT_ONE = _SELECT.replace("INDEXED BY by_age\nWHERE", "WHERE hash = :hash AND")


@lru_cache(HASHES_KEPT)
def hash_of(key: str) -> int:
    """Where a key's row is found: a 64-bit digest, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(_octets(key), digest_size=8).digest(), signed=True)


def put(
    database: sqlite3.Connection,
    items: Iterable[Item],
    breathe: Callable[[], object],
    learn: Callable[[Collection[int]], object],
) -> int:
    """Write all or, if it raises, none. Returns how many could not be encoded and were left out.

    A vector is left out silently if its question is not there. `breathe` is called in between: somebody else may need the core.
    `learn` is told the hashes of the rows, each before it is committed.
    """
    left_out = 0
    database.execute("BEGIN IMMEDIATE")
    for part in _parts(items):
        breathe()
        left_out += _keep(database, part) if isinstance(part, KeptVector) else _put(database, part, learn)
    database.execute("COMMIT")
    return left_out


def clear(database: sqlite3.Connection, selector: Selector, now: float) -> int:
    """Delete what the selector matches, a step at a time; how many. All of it is gone when this returns."""
    rows = select(database, selector, now)
    for start in range(0, len(rows), STEP_ROWS):
        _delete(database, rows[start : start + STEP_ROWS])
    return len(rows)


def select(database: sqlite3.Connection, selector: Selector, now: float) -> list[int]:
    """The rows that a clear of this selector would delete."""
    asked = asking(selector, now)
    if selector.keys is None:
        return [row for (row,) in database.execute(_SELECT, asked)]
    named = ({**asked, "hash": hash_of(key)} for key in selector.keys)
    return [row for one in named for (row,) in database.execute(_SELECT_ONE, one)]


def asking(selector: Selector, now: float) -> dict[str, bytes | float | None]:
    """A selector as the parameters of a statement; but for the keys that it may name."""
    return {
        "tenant": _chosen("tenant", selector.tenant),
        "namespace": _chosen("namespace", selector.namespace),
        "model": _chosen("model", selector.model),
        "tag": _chosen("tag", selector.tag),
        "writer": _chosen("writer", selector.writer),
        "older_than": selector.older_than,
        "now": now,
    }


def count(database: sqlite3.Connection) -> int:
    return int(database.execute(_COUNT).fetchone()[0])


def hashes(database: sqlite3.Connection, after: float) -> list[int]:
    """The next hashes of rows in their order; none at the end."""
    (found,) = database.execute(_HASHES, (after, HASHES_AT_ONCE)).fetchone()
    return [] if found is None else list(struct.unpack(f">{len(found) // 16}q", bytes.fromhex(found)))


def discard(database: sqlite3.Connection, row: int, sealed: bytes | None) -> int:
    """Delete a row that can't be read, unless another has taken its place."""
    return database.execute(_DISCARD, (row, sealed)).rowcount


def discard_question(database: sqlite3.Connection, row: int, head: bytes | None) -> int:
    """Delete a question that can't be read, unless another has taken its place."""
    return database.execute(_DISCARD_QUESTION, (row, head)).rowcount


def discard_vector(database: sqlite3.Connection, row: int, vector: bytes) -> int:
    """Forget a vector that can't be read, unless another has taken its place."""
    return database.execute(_DISCARD_VECTOR, (row, vector)).rowcount


def sweep(database: sqlite3.Connection, now: float) -> bool:
    """Delete a step of expired rows; True if more may be waiting."""
    rows = [row for (row,) in database.execute(_DUE, (now // DUE_STEP, STEP_ROWS))]
    _delete(database, rows)
    return len(rows) == STEP_ROWS


def count_ahead(database: sqlite3.Connection, now: float) -> int:
    """How many say to have been made in the future: nobody is answered with them as long as they do."""
    return int(database.execute(_COUNT_AHEAD, (now + AHEAD, PINNED)).fetchone()[0])


def shrink(database: sqlite3.Connection, max_bytes: int, now: float) -> bool:
    """One step towards the bound: evict the oldest rows that are not pinned, else give free pages back. True if more is waiting.

    What says to be of the future goes first: it answers nobody, and would otherwise be the last.

    What counts is pages in use, indexes and all. A row that needs more than one page makes this evict a little too much at most.
    """
    pages, free, page_bytes = database.execute(_PAGES).fetchone()
    excess = pages - free - max_bytes // page_bytes
    if excess > 0:
        most = min(excess, STEP_ROWS)
        rows = [row for (row,) in database.execute(_AHEAD, (now + AHEAD, PINNED, most))]
        rows = rows or [row for (row,) in database.execute(_OLDEST, (PINNED, most))]
        _delete(database, rows)
        return bool(rows)
    if free <= FREE_PAGES_KEPT:
        return False
    database.executescript("PRAGMA incremental_vacuum(512)")  # execute() would take one step of it, a single page
    database.execute("PRAGMA wal_checkpoint").fetchall()  # only now does the file itself become smaller
    return True


def _parts(items: Iterable[Item]) -> Iterator[list[Entry] | KeptVector]:
    """In their order: entries that are put in together, and vectors, each by itself."""
    entries, size = list[Entry](), 0
    for item in items:
        if isinstance(item, Entry):
            entries.append(item)
            size += len(item.body)
            if len(entries) < ROWS_AT_ONCE and size < BYTES_AT_ONCE:
                continue
        if entries:
            yield entries
            entries, size = [], 0
        if isinstance(item, KeptVector):
            yield item
    if entries:
        yield entries


def _put(database: sqlite3.Connection, entries: list[Entry], learn: Callable[[Collection[int]], object]) -> int:
    """How many could not be encoded and were left out."""
    rows: dict[int, tuple[_Row, _Blob | None]] = {}  # by hash: of several under one key, the last one stays
    left_out = 0
    for entry in entries:
        try:
            row, head = _row(entry), seal(entry.head()) if entry.scope else None
        except (ValueError, OverflowError):
            left_out += 1
        else:
            rows[row[0]] = row, head
    if rows:
        learn(rows)
        values = list(chain.from_iterable(row for row, _ in rows.values()))
        try:
            database.execute(_repeated(_ADD, len(rows)), values)
        except sqlite3.IntegrityError:  # one of them is there already
            database.execute(_repeated(_REPLACE, len(rows)), values)
    if asked := [(hashed, head) for hashed, (_, head) in rows.items() if head is not None]:
        database.execute(_repeated(_ASK, len(asked)), list(chain.from_iterable(asked)))
    return left_out


def _keep(database: sqlite3.Connection, vector: KeptVector) -> int:
    try:
        sealed = seal(vector)
    except (ValueError, OverflowError):
        return 1
    database.execute(_KEEP, (sealed, hash_of(vector.key)))
    return 0


@cache
def _repeated(statement: str, rows: int) -> str:
    """The statement for so many rows instead of one."""
    start, values, row_and_end = statement.partition("VALUES ")
    row, close, end = row_and_end.partition("?)")
    return start + values + ", ".join([row + close] * rows) + end


def _row(entry: Entry) -> _Row:
    return (
        hash_of(entry.key),
        entry.expires // DUE_STEP,
        entry.created,
        _labels(entry.tenant, entry.namespace, entry.model, entry.writer, entry.tags),
        seal(entry),
    )


@lru_cache(LABELS_KEPT)
def _labels(tenant: str, namespace: str, model: str, writer: str, tags: tuple[str, ...]) -> _Blob:
    """All that a clear may name an entry by, for nobody to change: it stands for many entries."""
    named = (("tenant", tenant), ("namespace", namespace), ("model", model), ("writer", writer), *(("tag", tag) for tag in tags))
    return _Blob().join(_label(kind, name) for kind, name in named)


@lru_cache(LABELS_KEPT)
def _label(kind: str, name: str) -> bytes:
    """By which a name is found in a row: of one length, and no character means anything."""
    return hashlib.blake2b(_octets(f"{kind}:{name}"), digest_size=LABEL_BYTES).digest()


def _chosen(kind: str, name: str | None) -> bytes | None:
    return None if name is None else _label(kind, name)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a clear may name anything; what can't be stored just isn't found


def _delete(database: sqlite3.Connection, rows: list[int]) -> None:
    if not rows:
        return
    database.execute("BEGIN IMMEDIATE")
    database.executemany(_DELETE, ((row,) for row in rows))
    database.execute("COMMIT")

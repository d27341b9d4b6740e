"""The disk tier looked through for whoever administrates: a page in its order, or some of what a clear would remove.

On the reader's thread, whose look-ups go first: a page ends early where one waits.
"""

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from sentinel_gateway.core.browsing import Page, Place, Selection, View
from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.stores import _sqlite_rows as rows
from sentinel_gateway.stores._sealing import unseal_any, unseal_head

LOOKED_AT: Final = 1_000
"""Rows of one page that fit: some 10 ms."""
PARTS: Final = 20
"""Of so many parts a page is made, where little fits: as long again."""
ROWS_AT_ONCE: Final = 16
BREATH: Final = 1e-5
"""As in `_sqlite_reader.py`: so that the event loop gets its turn."""
COUNTED_AT_ONCE: Final = 500
"""Rows of one part of a page or a preview: some 0.7 ms, for which a look-up may wait."""
LAST_ROW: Final = (1 << 63) - 1

# Entries with a question have their head beside the reply: a body that is not asked for is not read. The order by `due` is that
# of the expiry to within a step, 10 minutes, and so is a place in it.
_NEWEST: Final = """
SELECT replies.id, created, CAST(head AS BLOB), CASE WHEN head IS NULL THEN CAST(sealed AS BLOB) END
FROM replies INDEXED BY by_age LEFT JOIN questions ON questions.id = replies.id
WHERE created <= :at AND (created < :at OR replies.id < :row)
  AND created >= :end AND (created > :end OR replies.id >= :last)
  AND (:tenant IS NULL OR instr(labels, :tenant) > 0)
  AND (:namespace IS NULL OR instr(labels, :namespace) > 0)
  AND (:model IS NULL OR instr(labels, :model) > 0)
  AND (:tag IS NULL OR instr(labels, :tag) > 0)
  AND (:writer IS NULL OR instr(labels, :writer) > 0)
  AND (:older_than IS NULL OR :now - created > :older_than)
  AND (:newer_than IS NULL OR :now - created < :newer_than)
  AND (:pinned IS NULL OR due >= :pinned)
ORDER BY created DESC, replies.id DESC
"""
# Where a part of a page ends: so many rows are gone through, whether they fit or not.
_END: Final = """
SELECT created, replies.id FROM replies INDEXED BY by_age
WHERE created <= :at AND (created < :at OR replies.id < :row)
ORDER BY created DESC, replies.id DESC LIMIT 1 OFFSET :most
"""


def _rising(statement: str) -> str:
    turned = statement.replace("created <= :at", "created >= :at").replace("created < :at", "created > :at")
    turned = turned.replace("created >= :end", "created <= :end").replace("created > :end", "created < :end")
    return turned.replace("id < :row", "id > :row").replace("id >= :last", "id <= :last").replace("DESC", "ASC")


def _by_due(statement: str) -> str:
    turned = statement.replace("(created ", "(due ").replace("created <= :", "due <= :").replace("created >= :", "due >= :")
    turned = turned.replace("id, created", "id, due").replace("SELECT created", "SELECT due")
    return turned.replace("BY created", "BY due").replace("by_age", "by_due")


_STATEMENTS: Final = {
    ("created", False): _NEWEST,
    ("created", True): _rising(_NEWEST),
    ("expires", False): _by_due(_NEWEST),
    ("expires", True): _by_due(_rising(_NEWEST)),
}
_ENDS: Final = {
    ("created", False): _END,
    ("created", True): _rising(_END),
    ("expires", False): _by_due(_END),
    ("expires", True): _by_due(_rising(_END)),
}
# As one row: for each that Python is given, the interpreter changes hands. A row that does not match is gone through like any
# other, so a part takes no longer where little fits.
_PART: Final = """
WITH part AS MATERIALIZED (
    SELECT id, created, (chosen) AS fits FROM replies INDEXED BY by_age
    WHERE created >= :at AND (created > :at OR id > :row)
    ORDER BY created, id LIMIT :most
)
SELECT (SELECT count(*) FROM part WHERE fits),
       (SELECT group_concat(id) FROM (SELECT id FROM part WHERE fits LIMIT :sample)),
       created, id
FROM part ORDER BY created DESC, id DESC LIMIT 1
""".replace("chosen", rows.CHOSEN)
_ONE: Final = """
SELECT CAST(head AS BLOB), CASE WHEN head IS NULL THEN CAST(sealed AS BLOB) END
FROM replies LEFT JOIN questions ON questions.id = replies.id WHERE replies.id = ?
"""

Found = tuple[int, float, bytes | None, bytes | None]


def page(
    database: sqlite3.Connection, view: View, now: float, *, after: Place | None, most: int, is_wanted: Callable[[], bool]
) -> Page:
    """Entries of the view behind that place. What can't be read is left out: the next look-up takes it away."""
    if most <= 0:
        return Page((), after)
    heads: list[Head] = []
    read = 0
    for _ in range(PARTS):
        asked = _parameters(view, now, after)
        end = database.execute(_ENDS[view.order, view.rising], asked).fetchone()
        asked |= _until(view, end)
        with contextlib.closing(database.execute(_STATEMENTS[view.order, view.rising], asked)) as found:
            for place, head in _heads(found):
                read += 1
                if head is not None and view.matches(head, now):
                    heads.append(head)
                if len(heads) == most or read == LOOKED_AT or (read % ROWS_AT_ONCE == 0 and _yields(is_wanted)):
                    return Page(tuple(heads), place)
        if end is None:
            return Page(tuple(heads))
        after = Place(end[0], str(end[1]))
        if _yields(is_wanted):
            break
    return Page(tuple(heads), after)


class Part(NamedTuple):
    """Of what a clear would delete, what stands in some rows; `next` None: there are no more rows."""

    selection: Selection
    next: Place | None = None


def select(database: sqlite3.Connection, selector: Selector, now: float, *, after: Place | None, sample: int) -> Part:
    """What a clear would delete, of the rows behind that place, and the heads of so many. Keys that are named: all at once."""
    if selector.keys is not None:
        named = rows.select(database, selector, now)
        return Part(Selection(len(named), tuple(_read(database, named[:sample]))))
    at, row = (-math.inf, -1) if after is None else (after.at, _row(after.mark))
    asked = rows.asking(selector, now) | {"at": at, "row": row, "most": COUNTED_AT_ONCE, "sample": sample}
    found = database.execute(_PART, asked).fetchone()
    if found is None:
        return Part(Selection())
    count, shown, at, row = found
    heads = _read(database, map(int, shown.split(","))) if shown else ()
    return Part(Selection(count, tuple(heads)), Place(at, str(row)))


def _parameters(view: View, now: float, after: Place | None) -> dict[str, Any]:
    place = after or _beginning(view)
    return rows.asking(view.selector, now) | {
        "newer_than": view.newer_than,
        "pinned": rows.PINNED if view.state == "pinned" else None,
        "at": place.at,
        "row": _row(place.mark),
        "most": COUNTED_AT_ONCE - 1,
    }


def _until(view: View, end: tuple[float, int] | None) -> dict[str, float]:
    """To that row and no further; None: to the last."""
    if end is not None:
        return {"end": end[0], "last": end[1]}
    return {"end": math.inf, "last": LAST_ROW} if view.rising else {"end": -math.inf, "last": -1}


def _beginning(view: View) -> Place:
    """Before the first row. What is pinned stands at the end of the index by expiry: nothing else is gone through."""
    if not view.rising:
        return Place(math.inf, str(LAST_ROW))
    return Place(rows.PINNED if (view.state, view.order) == ("pinned", "expires") else -math.inf, "-1")


def _row(mark: str) -> int:
    """The row that a place names; one that names none is from another store, and then where to go on is not known exactly."""
    try:
        return max(-1, min(int(mark), LAST_ROW))
    except ValueError:
        return -1


def _heads(found: Iterator[Found]) -> Iterator[tuple[Place, Head | None]]:
    for row, at, head, sealed in found:
        yield Place(at, str(row)), _head(head, sealed)


def _head(head: bytes | None, sealed: bytes | None) -> Head | None:
    if head is not None:
        return unseal_head(head)
    entry = unseal_any(sealed)
    return None if entry is None else entry.head()


def _read(database: sqlite3.Connection, chosen: Iterable[int]) -> Iterator[Head]:
    for row in chosen:
        for head, sealed in database.execute(_ONE, (row,)):
            if (known := _head(head, sealed)) is not None:
                yield known


def _yields(is_wanted: Callable[[], bool]) -> bool:
    """Let others have their turn; True if somebody waits for this thread."""
    time.sleep(BREATH)
    return is_wanted()

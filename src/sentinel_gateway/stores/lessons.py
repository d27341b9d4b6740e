"""Lessons that nodes tell each other, in the database that they share: one after another, for who writes takes turns."""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

from sentinel_gateway.ports import News, Told
from sentinel_gateway.stores._state import State, Statements
from sentinel_gateway.stores.learners import Naming

KEPT: Final = 30 * 86_400.0
"""Seconds. Those of a learner that is kept go sooner."""
LEARNED: Final = 3_600.0
"""Seconds after which what is in what was kept may go: who has found what was kept before that has read the rest by then."""
OF_REALM: Final = 10_000
"""Lessons of a realm: no learner looks back further, and where no label ever comes nothing is kept that they could be in."""
AT_ONCE: Final = 1_000
"""Rows that go in one statement: more than come, and few enough for its deadline."""

_TELL: Final = """
INSERT INTO lessons (number, id, realm, at, lesson)
VALUES ((SELECT coalesce(max(number), 0) + 1 FROM lessons), ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_OLD: Final = """
DELETE FROM lessons WHERE number IN (SELECT number FROM lessons WHERE at < ? ORDER BY at LIMIT ?)
AND number < (SELECT max(number) FROM lessons)
"""
"""The last stays, so that its number is never given again; so it is below."""
_GONE: Final = """
DELETE FROM lessons WHERE number IN (SELECT number FROM lessons WHERE learned < ? ORDER BY learned LIMIT ?)
AND number < (SELECT max(number) FROM lessons)
"""
_SURPLUS: Final = """
DELETE FROM lessons WHERE number IN (
    SELECT number FROM lessons WHERE realm = ? AND number <= (
        SELECT number FROM lessons WHERE realm = ? ORDER BY number DESC LIMIT 1 OFFSET ?
    ) ORDER BY number LIMIT ?
)
"""
_LEARNED: Final = """
UPDATE lessons SET learned = ? WHERE number IN (
    SELECT number FROM lessons WHERE realm = ? AND number <= ? AND learned IS NULL ORDER BY number LIMIT ?
)
"""
"""By when they became part of what is kept, not by when they were told: a slow realm's are old by then."""
_LAST: Final = "SELECT coalesce(max(number), 0) FROM lessons"
_NEWS: Final = "SELECT number, realm, lesson FROM lessons WHERE number > ? ORDER BY number LIMIT ?"
_OF: Final = "SELECT number, realm, lesson FROM lessons WHERE realm = ? AND number > ? ORDER BY number LIMIT ?"
_KEPT: Final = "SELECT realm, at FROM learners"
_OVER: Final = "DELETE FROM leases WHERE name LIKE 'learner:%' AND ends <= ?"
"""Of realms that anybody made up, else there were more and more."""
_CLAIM: Final = """
INSERT INTO leases (name, holder, ends) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends = excluded.ends
WHERE leases.ends <= ? OR leases.holder = excluded.holder
RETURNING holder
"""


class SqlLessons:
    """Behind `LessonStore`. `naming` is that of what is made of the lessons."""

    def __init__(self, place: State, *, naming: Naming | None = None) -> None:
        self._place = place
        self._naming = naming or Naming()

    def __repr__(self) -> str:
        return f"<SqlLessons {self._place!r}>"

    async def tell(self, lessons: Sequence[tuple[str, str, bytes]], at: float) -> None:
        """They are on the disk when this returns."""
        rows = [(id_, realm, at, lesson) for id_, realm, lesson in lessons]
        await self._place.write(partial(_tell, rows=rows, at=at))

    async def news(self, since: int | None, limit: int) -> News:
        return await self._place.read(partial(self._news, since=since, limit=limit))

    async def of(self, realm: str, since: int, limit: int) -> News:
        return await self._place.read(partial(self._of, realm=realm, since=since, limit=limit))

    async def claim(self, realm: str, node: str, now: float, seconds: float) -> bool:
        """The turn of a node that has died ends by itself."""
        return await self._place.write(partial(_claim, values=(_lease(self._naming.name(realm)), node, now + seconds, now)))

    async def learned(self, realm: str, upto: int, at: float) -> None:
        await self._place.write(partial(_learned, values=(at, realm, upto, OF_REALM)))

    def _news(self, database: Statements, *, since: int | None, limit: int) -> News:
        return self._told(database, [] if since is None else database.execute(_NEWS, (since, limit)).fetchall())

    def _of(self, database: Statements, *, realm: str, since: int, limit: int) -> News:
        return self._told(database, database.execute(_OF, (realm, since, limit)).fetchall())

    def _told(self, database: Statements, found: list[tuple[int, str, bytes]]) -> News:
        (last,) = database.execute(_LAST).fetchone()
        named = [(self._naming.realm(name), at) for name, at in database.execute(_KEPT).fetchall()]
        kept = {realm: at for realm, at in named if realm is not None}
        return News([Told(*row) for row in found], int(last), kept)


def _lease(name: str) -> str:
    """It has no tenant's name in it, and always the same length."""
    return f"learner:{blake2b(name.encode(), digest_size=16).hexdigest()}"


def _tell(database: Statements, *, rows: Sequence[tuple[str, str, float, bytes]], at: float) -> None:
    """What is too old goes with what comes, and what a realm has too many of: of one at a time, by chance of the busiest."""
    database.executemany(_TELL, rows)
    database.execute(_OLD, (at - KEPT, AT_ONCE))
    database.execute(_GONE, (at - LEARNED, AT_ONCE))
    _, realm, _, _ = rows[-1]
    database.execute(_SURPLUS, (realm, realm, OF_REALM, AT_ONCE))


def _claim(database: Statements, *, values: tuple[str, str, float, float]) -> bool:
    database.execute(_OVER, values[-1:])
    return database.execute(_CLAIM, values).fetchone() is not None


def _learned(database: Statements, *, values: tuple[float, str, int, int]) -> None:
    database.execute(_LEARNED, values)

"""What was learned of right and wrong answers: a piece for each realm, made and read by its owner alone, or by all nodes.

It carries the version of its form in its name: nodes of two versions run side by side, neither takes the other's place, and the
way back finds what was there.
"""

import hmac
from collections import Counter
from functools import partial
from typing import Any, Final

from sentinel_gateway.core.evidence import parts_of
from sentinel_gateway.stores._state import State, Statements

MOST: Final = 256
"""Pieces that are kept: some megabytes each, where much was asked."""
PLAIN: Final = 3
"""The version whose names are those of the realms."""
MARK: Final = "\x1f"
"""Before any other: it is in no tenant's name and no namespace's."""

_KEEP: Final = """
INSERT INTO learners (realm, at, state) VALUES (?, ?, ?)
ON CONFLICT (realm) DO UPDATE SET at = excluded.at, state = excluded.state
RETURNING realm
"""
_KEEP_SHARED: Final = """
INSERT INTO learners (realm, at, lesson, state) VALUES (?, ?, ?, ?)
ON CONFLICT (realm) DO UPDATE SET at = excluded.at, lesson = excluded.lesson, state = excluded.state
WHERE learners.lesson <= excluded.lesson
RETURNING realm
"""
"""A node that was frozen must not put what it had worked out in place of what others have made of more lessons since."""
_DROP: Final = "DELETE FROM learners WHERE realm = ?"
_FIND: Final = "SELECT state FROM learners WHERE realm = ?"
_BEGINS: Final = "SELECT substr(state, 1, ?) FROM learners WHERE realm = ?"
_ALL: Final = "SELECT realm FROM learners ORDER BY at DESC"


def words_key(secret: bytes) -> bytes:
    """That of the checksums by which words are kept: whoever has the file alone can't try words against it."""
    return hmac.digest(secret, b"sentinel: the words that were counted", "sha256")


class Naming:
    """How what was learned of a realm is called by those who read one version of it."""

    def __init__(self, version: int = PLAIN) -> None:
        self._mark = "" if version == PLAIN else f"{MARK}{version}"

    def __repr__(self) -> str:
        return f"<Naming {self._mark!r}>"

    def name(self, realm: str) -> str:
        return realm + self._mark

    def realm(self, name: str) -> str | None:
        """None: of another version."""
        realm, mark, version = name.partition(MARK)
        return realm if mark + version == self._mark else None


class SqlLearners:
    """Behind `LearnerStore`. `shared`: nodes learn together there. `naming` is that of the version that is kept and found."""

    def __init__(self, place: State, most: int = MOST, *, naming: Naming | None = None, shared: bool = False) -> None:
        self._place = place
        self._most = most
        self._naming = naming or Naming()
        self._shared = shared

    def __repr__(self) -> str:
        return f"<SqlLearners {self._place!r}>"

    async def keep(self, realm: str, state: bytes, at: float, lesson: int) -> bool:
        """It is on the disk when this returns."""
        name = self._naming.name(realm)
        query, values = (_KEEP_SHARED, (name, at, lesson, state)) if self._shared else (_KEEP, (name, at, state))
        return await self._place.write(partial(_keep, query=query, values=values, most=self._most))

    async def find(self, realm: str) -> bytes | None:
        """As it was given."""
        return await self._place.read(partial(_found, query=_FIND, values=(self._naming.name(realm),)))

    async def begins(self, realm: str, size: int) -> bytes | None:
        """The rest is not read."""
        return await self._place.read(partial(_found, query=_BEGINS, values=(size, self._naming.name(realm))))

    async def latest(self, limit: int) -> list[str]:
        """The newest first."""
        names = await self._place.read(_names)
        return [realm for name in names if (realm := self._naming.realm(name)) is not None][:limit]


def _keep(database: Statements, *, query: str, values: tuple[Any, ...], most: int) -> bool:
    if database.execute(query, values).fetchone() is None:
        return False
    realms = _names(database)
    for _ in range(len(realms) - most):
        gone = _surplus(realms)
        realms.remove(gone)
        database.execute(_DROP, (gone,))
    return True


def _surplus(realms: list[str]) -> str:
    """The oldest of whoever has the most: namespaces that one tenant makes up push out none of another's."""
    owned = Counter(parts_of(realm)[0] for realm in realms)
    most = max(owned.values())
    return next(realm for realm in reversed(realms) if owned[parts_of(realm)[0]] == most)


def _found(database: Statements, *, query: str, values: tuple[Any, ...]) -> bytes | None:
    row = database.execute(query, values).fetchone()
    return None if row is None else bytes(row[0])


def _names(database: Statements) -> list[str]:
    """Of all versions, the newest first."""
    return [name for (name,) in database.execute(_ALL).fetchall()]

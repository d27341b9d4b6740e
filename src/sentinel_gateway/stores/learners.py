"""What was learned of right and wrong answers, in `sentinel.db`: a piece for each realm, made and read by its owner alone."""

import hmac
import sqlite3
from collections import Counter
from functools import partial
from typing import Final

from sentinel_gateway.core.evidence import parts_of
from sentinel_gateway.stores._state_file import StateFile

MOST: Final = 256
"""Pieces that are kept: some megabytes each, where much was asked."""

_KEEP: Final = "INSERT OR REPLACE INTO learners (realm, at, state) VALUES (?, ?, ?)"
_DROP: Final = "DELETE FROM learners WHERE realm = ?"
_FIND: Final = "SELECT state FROM learners WHERE realm = ?"
_LATEST: Final = "SELECT realm FROM learners ORDER BY at DESC LIMIT ?"


def words_key(secret: bytes) -> bytes:
    """That of the checksums by which words are kept: whoever has the file alone can't try words against it."""
    return hmac.digest(secret, b"sentinel: the words that were counted", "sha256")


class SqliteLearners:
    """Behind `LearnerStore`."""

    def __init__(self, file: StateFile, most: int = MOST) -> None:
        self._file = file
        self._most = most

    def __repr__(self) -> str:
        return f"<SqliteLearners {self._file!r}>"

    async def keep(self, realm: str, state: bytes, at: float) -> None:
        """It is on the disk when this returns."""
        await self._file.write(partial(_keep, values=(realm, at, state), most=self._most))

    async def find(self, realm: str) -> bytes | None:
        """As it was given."""
        return await self._file.read(partial(_find, realm=realm))

    async def latest(self, limit: int) -> list[str]:
        """The newest first."""
        return await self._file.read(partial(_latest, limit=limit))


def _keep(database: sqlite3.Connection, *, values: tuple[str, float, bytes], most: int) -> None:
    database.execute(_KEEP, values)
    realms = _latest(database, limit=-1)
    for _ in range(len(realms) - most):
        gone = _surplus(realms)
        realms.remove(gone)
        database.execute(_DROP, (gone,))


def _surplus(realms: list[str]) -> str:
    """The oldest of whoever has the most: namespaces that one tenant makes up push out none of another's."""
    owned = Counter(parts_of(realm)[0] for realm in realms)
    most = max(owned.values())
    return next(realm for realm in reversed(realms) if owned[parts_of(realm)[0]] == most)


def _find(database: sqlite3.Connection, *, realm: str) -> bytes | None:
    row = database.execute(_FIND, (realm,)).fetchone()
    return None if row is None else bytes(row[0])


def _latest(database: sqlite3.Connection, *, limit: int) -> list[str]:
    return [realm for (realm,) in database.execute(_LATEST, (limit,))]

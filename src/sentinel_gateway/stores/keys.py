"""The client keys, in `sentinel.db` or where nodes keep them together.

Names are searched by their beginnings: no pattern is ever made of what a caller sends.
"""

import base64
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.core.access import Key, KeyScope
from sentinel_gateway.core.budgets import NO_BUDGET, Budget
from sentinel_gateway.core.issuance import NO_KEY, Amendment, AuditEntry
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import InvalidField, KeyNotFound
from sentinel_gateway.ports import KeyChanges, KeyPage, Mark
from sentinel_gateway.stores import audit
from sentinel_gateway.stores._state import State, Statements

FIRST: Final = "\t"
LAST: Final = "\U0010ffff"
"""They sort before and after whatever a name may hold."""

BATCH: Final = 2000
"""Changes that are told at a time: some 20 ms."""

_INSERT: Final = """
INSERT INTO keys (id, digest, hint, name, tenant, place, rights, created, expires, revoked, successor, sequence)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(sequence), 0) + 1 FROM keys))
"""
_UPDATE: Final = """
UPDATE keys SET rights = ?, expires = ?, revoked = ?, successor = ?, sequence = (SELECT max(sequence) + 1 FROM keys) WHERE id = ?
"""
_BY_ID: Final = "SELECT id, digest, hint, name, tenant, rights, created, expires, revoked, successor FROM keys WHERE id = ?"
_BY_DIGEST: Final = (
    "SELECT id, digest, hint, name, tenant, rights, created, expires, revoked, successor FROM keys WHERE digest = ?"
)
_PAGE: Final = """
SELECT id, digest, hint, name, tenant, rights, created, expires, revoked, successor, place FROM keys
WHERE place > ? AND place < ? ORDER BY place LIMIT ?
"""
_PAGE_OF_TENANT: Final = """
SELECT id, digest, hint, name, tenant, rights, created, expires, revoked, successor, place FROM keys
WHERE tenant = ? AND place > ? AND place < ? ORDER BY place LIMIT ?
"""
_ENDED: Final = "SELECT id, revoked IS NOT NULL FROM keys"
_LAST: Final = "SELECT coalesce(max(sequence), 0) FROM keys"
_CHANGED: Final = """
SELECT id, digest, hint, name, tenant, rights, created, expires, revoked, successor, sequence FROM keys
WHERE sequence > ? ORDER BY sequence LIMIT ?
"""


class _Rights(msgspec.Struct, frozen=True):
    """What no query asks for, in one column."""

    scopes: frozenset[KeyScope]
    models: tuple[str, ...]
    trial: bool
    limits: Limits
    user_limits: Limits
    max_wrong_hit_rate: float | None = None
    budget: Budget = NO_BUDGET


class SqlKeys:
    """Behind `KeyStore`."""

    def __init__(self, place: State) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"<SqlKeys {self._place!r}>"

    async def create(self, key: Key, entry: AuditEntry) -> None:
        """Key and entry are on the disk when this returns."""
        await self._place.write(partial(create, key=key, entry=entry))

    async def get(self, id: str) -> Key | None:  # noqa: A002 - its name
        """The key as it is kept."""
        return await self._place.read(partial(_one, query=_BY_ID, value=id))

    async def find(self, digest: bytes) -> Key | None:
        """The key whose text has this digest."""
        return await self._place.read(partial(_one, query=_BY_DIGEST, value=digest))

    async def page(self, *, prefix: str, tenant: str | None, limit: int, cursor: str | None) -> KeyPage:
        """Keys whose names begin so, in whatever case."""
        folded = prefix.casefold()
        after = folded if cursor is None else max(folded, _place(cursor))
        query, scope = (_PAGE, ()) if tenant is None else (_PAGE_OF_TENANT, (tenant,))
        values = (*scope, after, folded + LAST, limit + 1)
        return await self._place.read(partial(_page, query=query, values=values, limit=limit))

    async def update(self, id: str, rule: Callable[[Key], Amendment]) -> Amendment:  # noqa: A002 - its name
        """The rule runs inside the transaction, on the store's thread."""
        return await self._place.write(partial(change, id=id, rule=rule))

    async def changes(self, since: Mark | None) -> KeyChanges:
        """What has changed since, so many at a time that no other question waits long."""
        return await self._place.read(partial(self._changes, since=since))

    def _changes(self, database: Statements, *, since: Mark | None) -> KeyChanges:
        (last,) = database.execute(_LAST).fetchone()
        start = (self._place.history(database), 0)
        whole = since is None or since[0] != start[0] or since[1] > last
        begin = start if whole or since is None else since
        rows = database.execute(_CHANGED, (begin[1], BATCH)).fetchall()
        mark = (begin[0], rows[-1][-1] if rows else begin[1])
        return KeyChanges(tuple(map(_key, rows)), mark, whole, more=mark[1] < last)


def create(database: Statements, *, key: Key, entry: AuditEntry) -> None:
    """Within a transaction of whoever makes the change, as `change`."""
    _insert(database, key)
    audit.append(database, entry)


def change(database: Statements, *, id: str, rule: Callable[[Key], Amendment]) -> Amendment:  # noqa: A002
    """The rule is given what is kept now."""
    key = _one(database, query=_BY_ID, value=id)
    if key is None:
        raise KeyNotFound(NO_KEY)
    amendment = rule(key)
    if amendment.entry is not None:
        after = amendment.key
        database.execute(_UPDATE, (_rights(after), after.expires, after.revoked, after.successor, after.id))
        if amendment.successor is not None:
            _insert(database, amendment.successor)
        audit.append(database, amendment.entry)
    return amendment


def _insert(database: Statements, key: Key) -> None:
    place = key.name.casefold() + FIRST + key.id  # unique, so that a page begins where the one before it ended
    named = (key.id, key.digest, key.hint, key.name, key.tenant, place, _rights(key))
    database.execute(_INSERT, (*named, key.created, key.expires, key.revoked, key.successor))


def ended(database: Statements) -> dict[str, bool]:
    """All ids there are, and whether they were revoked."""
    return dict(database.execute(_ENDED).fetchall())


def _rights(key: Key) -> bytes:
    given = (key.scopes, key.models, key.trial, key.limits, key.user_limits, key.max_wrong_hit_rate, key.budget)
    return msgspec.json.encode(_Rights(*given))


def _page(database: Statements, *, query: str, values: tuple[Any, ...], limit: int) -> KeyPage:
    rows = database.execute(query, values).fetchall()
    more = len(rows) > limit
    return KeyPage(tuple(map(_key, rows[:limit])), _cursor(rows[limit - 1][-1]) if more else None)


def _one(database: Statements, *, query: str, value: str | bytes) -> Key | None:
    row = database.execute(query, (value,)).fetchone()
    return None if row is None else _key(row)


def _key(row: tuple[Any, ...]) -> Key:
    id_, digest, hint, name, tenant, packed, created, expires, revoked, successor = row[:10]
    rights = msgspec.json.decode(packed, type=_Rights)
    return Key(
        id=id_,
        digest=digest,
        hint=hint,
        name=name,
        tenant=tenant,
        scopes=rights.scopes,
        models=rights.models,
        trial=rights.trial,
        limits=rights.limits,
        user_limits=rights.user_limits,
        max_wrong_hit_rate=rights.max_wrong_hit_rate,
        budget=rights.budget,
        created=created,
        expires=expires,
        revoked=revoked,
        successor=successor,
    )


def _cursor(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str) -> str:
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except ValueError as exc:
        raise InvalidField("The cursor is not one that this list gave: begin without one.", param="cursor") from exc

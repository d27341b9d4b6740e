"""The audit log, beside the keys: rows that the database itself refuses to change or delete."""

from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.ports import AuditPage
from sentinel_gateway.stores._state import State, Statements

NEWEST: Final = (1 << 63) - 1

_APPEND: Final = """
INSERT INTO audit (id, at, actor, action, object, tenant, before, after)
VALUES ((SELECT coalesce(max(id), 0) + 1 FROM audit), ?, ?, ?, ?, ?, ?, ?)
"""
"""The numbers have no gaps: where one is, somebody has been at the table."""
_ALL: Final = "SELECT id, at, actor, action, object, tenant, before, after FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?"
_OF_TENANT: Final = (
    "SELECT id, at, actor, action, object, tenant, before, after FROM audit WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?"
)


class SqlAudit:
    """Behind `AuditLog`."""

    def __init__(self, place: State) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"<SqlAudit {self._place!r}>"

    async def append(self, entry: AuditEntry) -> None:
        """It is on the disk when this returns."""
        await self._place.write(partial(append, entry=entry))

    async def page(self, *, tenant: str | None, limit: int, cursor: int | None) -> AuditPage:
        """Entries before the cursor, the newest first; a tenant's only, or all."""
        before = NEWEST if cursor is None else cursor
        query, scope = (_ALL, ()) if tenant is None else (_OF_TENANT, (tenant,))
        return await self._place.read(partial(_page, query=query, values=(*scope, before, limit + 1), limit=limit))


def append(database: Statements, entry: AuditEntry) -> None:
    """Within a transaction of whoever makes the change."""
    shown = (None if side is None else msgspec.json.encode(side) for side in (entry.before, entry.after))
    database.execute(_APPEND, (entry.at, entry.actor, entry.action, entry.object, entry.tenant, *shown))


def _page(database: Statements, *, query: str, values: tuple[Any, ...], limit: int) -> AuditPage:
    rows = database.execute(query, values).fetchall()
    entries = tuple(map(_entry, rows[:limit]))
    return AuditPage(entries, entries[-1].id if len(rows) > limit else None)


def _entry(row: tuple[int, float, str, str, str, str | None, bytes | None, bytes | None]) -> AuditEntry:
    number, at, actor, action, thing, tenant, *sides = row
    before, after = (None if side is None else msgspec.json.decode(side) for side in sides)
    return AuditEntry(id=number, at=at, actor=actor, action=action, object=thing, tenant=tenant, before=before, after=after)

"""The audit log: who changed what, and when; also as a file."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import Request

from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.pages import HOME, Context, Download, Page, Screen
from sentinel_gateway.api.dashboard.spreadsheet import CSV, as_csv
from sentinel_gateway.api.keys import KeyAdmin

PATH: Final = f"{HOME}/audit"
AT_ONCE: Final = 50
AT_A_TIME: Final = 200
DIGITS: Final = 19
"""Of the longest number of an entry."""
MOST: Final = 10_000
"""Entries in a file: the newest."""


class Audit(Screen):
    """The page. Whoever administrates a tenant sees what concerns it, the operator all."""

    page = Page(name="audit", title="Audit log", path=PATH, access="admin", reads=("/admin/audit",))

    def __init__(self, keys: KeyAdmin) -> None:
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Audit of {self._keys!r}>"

    async def show(self, request: Request) -> Context:
        """A page of it, the newest first."""
        cursor = request.query_params.get("cursor", "")
        is_number = cursor.isascii() and cursor.isdigit() and len(cursor) <= DIGITS  # of thousands `int` would make no number
        from_ = int(cursor) if is_number and 0 < int(cursor) < 1 << 63 else None
        found = await self._keys.audit(request, from_, AT_ONCE)
        entries = [_shown(one) for one in found["data"]]
        return {"entries": entries, "next": found["next"], "first": from_ is None, "most": MOST}

    def downloads(self) -> Sequence[Download]:
        return [Download(path=f"{PATH}/audit.csv", media_type=CSV, make=self.export)]

    async def export(self, request: Request) -> bytes:
        """The newest entries as a table."""
        rows: list[Mapping[str, Any]] = []
        cursor = None
        while len(rows) < MOST:
            found = await self._keys.audit(request, cursor, AT_A_TIME)
            rows += found["data"]
            cursor = found["next"]
            if cursor is None:
                break
        plain = ("actor", "action", "object", "tenant")
        heads = ("id", "at", *plain, "before", "after")
        return as_csv(heads, ([one["id"], one["at"], *(one[name] for name in plain), *_both(one)] for one in rows))


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    before, after = _both(one)
    return {"at": words.moment(one["at"]), "before": before, "after": after} | {
        name: one[name] or "" for name in ("actor", "action", "object", "tenant")
    }


def _both(one: Mapping[str, Any]) -> tuple[str, str]:
    """What was changed, as JSON."""
    before, after = (msgspec.json.encode(one[name]).decode() if one[name] else "" for name in ("before", "after"))
    return before, after

"""What the provider saw, and whether the ledger says the same: every call once, with the tokens that were told."""

import asyncio
import sqlite3
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Final

from bench.chaos import Call, ChaosUpstream

EVERY: Final = 1.0
MAY_LACK: Final = frozenset({"orphan", "left", "unreachable", "timeout"})
"""Endings of a row whose call the provider may never have seen."""
COUNTED: Final = ("/chat/completions", "/messages")
"""Where the log counts tokens of the answer."""


class Oracle:
    """The provider's log, told apart by our id of the request that each call was made for. The log itself is forgotten."""

    def __init__(self, upstream: ChaosUpstream) -> None:
        self.asked: Counter[str] = Counter()
        self.tokens: dict[str, int] = {}
        """Of the answer, where there was one."""
        self._upstream = upstream

    def __repr__(self) -> str:
        return f"<Oracle {self.asked.total()} calls>"

    def gather(self) -> None:
        """Take in what has ended."""
        for call in self._upstream.take():
            self.count(call)

    async def keep_gathering(self) -> None:
        """Until it is cancelled."""
        while True:
            self.gather()
            await asyncio.sleep(EVERY)

    def count(self, call: Call) -> None:
        """Take in one call that has ended."""
        if call.method != "POST":
            return
        id_ = call.header(b"x-request-id") or ""
        self.asked[id_] += 1
        if call.status == HTTPStatus.OK and call.path.endswith(COUNTED):
            self.tokens[id_] = call.tokens_sent

    def faults(self, ledger: Path) -> dict[str, int]:
        """How often the ledger says something else, by what is wrong; empty if it never does."""
        database = sqlite3.connect(ledger)
        try:
            rows = database.execute("SELECT id, number, ending, completion_tokens FROM attempts").fetchall()
        finally:
            database.close()
        booked = Counter(row[0] for row in rows)
        may_lack = {row[0] for row in rows if row[2] in MAY_LACK}
        found = {
            "no row": sum(count > booked[id_] for id_, count in self.asked.items()),
            "a row of no call": sum(count > self.asked[id_] and id_ not in may_lack for id_, count in booked.items()),
            "doubled": len(rows) - len({row[:2] for row in rows}),
            "other tokens": sum(row[2] == "answered" and row[0] in self.tokens and row[3] != self.tokens[row[0]] for row in rows),
            "no rows at all": int(not rows),
        }
        return {what: count for what, count in found.items() if count}

"""What has to be found in a folder after whatever happened to the process that has kept things there (`writing.py`)."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.copier import copy_left_behind
from sentinel_gateway.stores.secret import gateway_secret
from tests.contract.keys.conftest import open_state
from tests.faults.writing import PEPPER, ROWS, key


@dataclass
class Kept:
    """What the process has told."""

    told: list[str]

    @property
    def ended(self) -> bool:
        """Did it come to its end?"""
        return self.told[-1:] == ["end"]

    @property
    def rows(self) -> set[int]:
        return {int(line) for line in self.told if line.isdecimal()}


def ledger_rows(data: Path, question: str, url: str | None = None) -> list[tuple]:
    """What a ledger holds, with what is still in journals: as `sentinel ledger export` finds it. `url` is PostgreSQL's."""
    database = make_database(data, url)
    copy_left_behind(data / "journal", database, lambda *_, **__: None)
    database.close()
    if url is not None:
        with psycopg.connect(url) as connection:
            return connection.execute(question).fetchall()
    with closing(sqlite3.connect(data / "ledger.db")) as connection:
        return connection.execute(question).fetchall()


def check_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def check_keys(data: Path, kept: Kept) -> None:
    async def look() -> None:
        state = await open_state(data, PEPPER)
        found = await state.ids()
        assert {key(number).id for number in kept.rows} <= found <= {key(number).id for number in range(ROWS + 2)}
        log = (await state.log.page(tenant=None, limit=100, cursor=None)).entries
        assert sorted(entry.object for entry in log if entry.action == "key.create") == sorted(found)
        if "revoked" in kept.told:
            assert (await state.keys.get(key(0).id)).revoked is not None
        await state.create(ROWS + 2)
        await state.file.close()

    asyncio.run(look())
    check_sqlite(data / "sentinel.db")
    if kept.ended:
        assert kept.rows & {ROWS, ROWS + 1}


def check_ledger(data: Path, kept: Kept) -> None:
    """Every call that was told stands in the database once; one whose outcome was not told perhaps as an orphan."""
    database = make_database(data, None)
    if (data / "journal").exists():
        copy_left_behind(data / "journal", database, lambda *_, **__: None)
    database.open()
    with database.reading() as connection:
        found = dict(connection.exec_driver_sql("SELECT id, ending FROM attempts").all())
        count = connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar()
    database.close()
    assert count == len(found)
    settled = {id_ for id_, ending in found.items() if ending == "answered"}
    assert {f"{number:032x}" for number in kept.rows} <= settled
    assert {f"{int(line[7:]):032x}" for line in kept.told if line.startswith("intent")} <= found.keys()
    if kept.ended:
        assert settled == found.keys()
        assert len(settled) == ROWS
    check_sqlite(data / "ledger.db")


def check_secret(data: Path, kept: Kept) -> None:
    """What was told is what is kept; what was not told may be another, but is a whole one."""
    now = gateway_secret(data, None).decode()
    assert len(now) == 64
    assert [line for line in kept.told if line != "end"] in ([], [now])


CHECKS = {"keys": check_keys, "journal": check_ledger, "books": check_ledger, "secret": check_secret}

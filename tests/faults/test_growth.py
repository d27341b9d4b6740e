"""B7 with a whole gateway: a million old requests go from its ledger while it answers others."""

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.tables import DAY
from tests.faults.traffic import Traffic, nothing_collected
from tests.ledger.growth import fill

pytestmark = [pytest.mark.anyio, pytest.mark.long]

REQUESTS = 1_000_000
RATE = 100
SECONDS = 30.0
MORE = 0.010
"""Seconds by which the slowest one in a hundred may be slower meanwhile."""


async def test_callers_do_not_notice_that_a_million_old_requests_go(start, tmp_path):
    data = tmp_path / "one" / "data"
    data.mkdir(parents=True, mode=0o700)
    database = make_database(data, None)
    now = time.time_ns() // 1000
    count = fill(database, REQUESTS, now - 100 * DAY)
    database.close()

    def left() -> int:
        with closing(sqlite3.connect(data / "ledger.db")) as connection:
            asked = "SELECT (SELECT count(*) FROM requests WHERE at < ?1) + (SELECT count(*) FROM attempts WHERE at < ?1)"
            return connection.execute(asked, (now - 90 * DAY,)).fetchone()[0]

    phases = {}
    for retention in ("0", "90"):
        node = await start("one", SENTINEL_DATA_DIR=str(data), SENTINEL_LEDGER__RETENTION=retention, MEMORY_CACHE_SIZE="1000")
        with nothing_collected():
            async with Traffic(node.base_url, rate=RATE, name=f" {retention}") as traffic:
                await asyncio.sleep(5)  # until the ledger is open
                begun = time.monotonic()
                await asyncio.sleep(SECONDS)
                gone = count - await asyncio.to_thread(left)
        phases[retention] = traffic.between(begun)
        print(f"retention {retention}: {phases[retention]}, {gone} rows gone")
        assert phases[retention].problems == {}
        assert (gone > 0) == (retention == "90"), "nothing went while it was measured"
        if retention == "0":
            await asyncio.to_thread(node.stop)
    async with asyncio.timeout(900):
        while await asyncio.to_thread(left):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(2)
    print(f"the last of {count} rows had gone {time.monotonic() - begun:.0f} s after the first were")
    assert phases["90"].seconds(0.99) <= phases["0"].seconds(0.99) + MORE

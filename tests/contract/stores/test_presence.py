"""The disk is not asked for what its file surely lacks, and nothing that is committed is ever denied."""

import asyncio
import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections import deque
from pathlib import Path

import anyio
import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._sqlite_file import BrokenFile
from sentinel_gateway.stores._sqlite_presence import Presence, Scan
from sentinel_gateway.stores._sqlite_rows import hash_of
from sentinel_gateway.stores.sqlite import SqliteLimits
from tests.contract.stores.conftest import NOW, Told, answers_at_once, knows_its_keys, make_entry, open_sqlite, until
from tests.contract.stores.test_disk_faults import HASTY, another_process_holds

SMALL = SqliteLimits(max_bytes=600_000, deadline=5.0, pause=0.05)
"""Of some 150 entries, with a filter of 1 KiB that is made anew after 128 puts."""


@pytest.mark.anyio
async def test_a_frozen_disk_is_not_noticed_by_who_asks_for_what_it_lacks(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=HASTY)
    store.put(make_entry("k"))
    await store.flush()
    await knows_its_keys(store)
    with another_process_holds(tmp_path / "cache.db", "log"):
        for n in range(200):
            assert await store.get(f"absent-{n}") is None
        assert told.events == []
        for _ in range(HASTY.failures):
            with pytest.raises(StoreDown):
                await store.get("k")
        assert told.names == ["store_down"]
        with pytest.raises(StoreDown):
            await store.get("absent-0")
    await store.close()


@pytest.mark.anyio
async def test_it_knows_its_keys_after_a_restart_and_after_a_clear(tmp_path, told):
    keys = [str(n) for n in range(9000)]
    store = await open_sqlite(tmp_path, told)
    for start in range(0, len(keys), 3000):
        for key in keys[start : start + 3000]:
            store.put(make_entry(key))
        await store.flush()
    await store.close()
    store = await open_sqlite(tmp_path, told)
    assert [key for key in keys if await store.get(key) is None] == []
    await knows_its_keys(store)
    assert [key for key in keys if answers_at_once(store, key)] == []
    assert await store.clear(Selector(), NOW) == len(keys)
    await knows_its_keys(store)
    assert [key for key in keys if not answers_at_once(store, key)] == []
    await store.close()
    assert told.events == []


@pytest.mark.anyio
async def test_rows_that_left_the_file_are_forgotten(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SMALL)
    for n in range(5000):
        store.put(make_entry(str(n), body=bytes(3000), created=NOW - 5000 + n))
        if n % 100 == 99:
            await store.flush()
    await until(lambda: sum(answers_at_once(store, f"absent-{n}") for n in range(1000)) > 900)
    assert await store.count() < 200
    await store.close()


@pytest.mark.anyio
async def test_a_file_put_in_place_of_a_lost_one_is_read(tmp_path, told):
    other = await open_sqlite(tmp_path / "other", told)
    other.put(make_entry("k"))
    await other.close()
    store = await open_sqlite(tmp_path / "own", told)
    await knows_its_keys(store)
    assert answers_at_once(store, "k")
    shutil.copy(tmp_path / "other" / "cache.db", tmp_path / "copy")
    for name in ("cache.db-wal", "cache.db-shm"):
        (tmp_path / "own" / name).unlink(missing_ok=True)
    (tmp_path / "copy").replace(tmp_path / "own" / "cache.db")
    await until(lambda: told.names == ["store_file_lost"])
    await store.flush()
    assert await store.get("k") == make_entry("k")
    await knows_its_keys(store)
    assert await store.get("k") == make_entry("k")
    await store.close()


def committed(folder: Path) -> set[int]:
    """The hashes of the rows in the file, asked behind the store's back."""
    with contextlib.closing(sqlite3.connect(f"{(folder / 'cache.db').as_uri()}?mode=ro", uri=True)) as database:
        return {hashed for (hashed,) in database.execute("SELECT hash FROM replies")}


class Keeping(RuleBasedStateMachine):
    """Whatever happens to the file: what a look-up doesn't find is not in it."""

    def __init__(self):
        super().__init__()
        self.top = tempfile.TemporaryDirectory()
        self.folder = Path(self.top.name)
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.now = NOW
        self.puts = 0
        self.open()

    def open(self):
        self.told = Told()
        opening = open_sqlite(self.folder, self.told, limits=SMALL, clock=lambda: self.now)
        self.store = self.runner.run(opening)

    @rule(count=st.sampled_from([1, 150]), size=st.sampled_from([10, 3000]), tag=st.sampled_from("ab"))
    def put(self, count, size, tag):
        self.runner.run(self.put_now(count, size, tag))

    async def put_now(self, count, size, tag):
        for _ in range(count):
            entry = make_entry(str(self.puts), body=bytes(size), tags=(tag,), created=self.now, expires=self.now + 3600)
            self.store.put(entry)
            self.puts += 1

    @rule(selector=st.sampled_from([Selector(), Selector(tag="a"), Selector(older_than=60.0)]))
    def clear(self, selector):
        self.runner.run(self.store.clear(selector, self.now))

    @rule(seconds=st.sampled_from([100.0, 5000.0]))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def know(self):
        self.runner.run(knows_its_keys(self.store))

    @rule(damaged=st.booleans())
    def restart(self, damaged):
        self.runner.run(self.store.close())
        if damaged:
            (self.folder / "cache.db").write_bytes(random.Random(self.puts).randbytes(5000))
        self.open()

    @rule()
    def lose(self):
        (self.folder / "cache.db").unlink()
        self.runner.run(until(lambda: "store_file_lost" in self.told.names))
        self.runner.run(self.until_it_works())
        self.told.events.clear()

    async def until_it_works(self):
        while True:
            with contextlib.suppress(StoreDown):
                await self.store.flush()
                return

    @invariant()
    def nothing_is_denied(self):
        self.runner.run(self.compare())

    async def compare(self):
        await self.until_it_works()
        missing = {n for n in range(self.puts) if await self.store.get(str(n)) is None}
        assert not committed(self.folder) & {hash_of(str(n)) for n in missing}

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        self.top.cleanup()


@pytest.mark.hypothesis
def test_whatever_happens_nothing_in_the_file_is_denied():
    examples = settings(max_examples=6, stateful_step_count=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Keeping, settings=examples)


class Disk:
    """In place of the writer: does one thing at a time, when it is told to."""

    def __init__(self, rows):
        self.queue = deque()
        self.filters = ()
        self.replace(rows)

    def replace(self, rows):
        self.generation = getattr(self, "generation", 0) + 1
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.execute("CREATE TABLE replies (hash INTEGER NOT NULL UNIQUE)")
        self.database.executemany("INSERT INTO replies VALUES (?)", ((hashed,) for hashed in rows))

    def read(self, job, future):
        self.queue.append((job, future))

    def put(self, hashed):
        self.queue.append(hashed)

    def work(self, count=1):
        for _ in range(min(count, len(self.queue))):
            match self.queue.popleft():
                case (job, future):
                    future.set_result(job(self.database))
                case hashed:
                    for known in self.filters:
                        known.add([hashed])
                    self.database.execute("INSERT OR REPLACE INTO replies VALUES (?)", (hashed,))

    def rows(self):
        return [hashed for (hashed,) in self.database.execute("SELECT hash FROM replies")]


MANY = range(-(2**63), 2**63, 2**64 // 9000)
"""Rows that take two steps to be read, the first and the last possible hash among them."""


def put_some(disk, chance):
    for _ in range(40):
        disk.put(chance.getrandbits(64) - 2**63)


HAPPENINGS = ["put", "work", "work", "turn", "turn", "evict", "ask", "ask", "replace", "replace by many"]


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(20))
async def test_puts_and_new_files_in_any_order_with_the_reading_of_hashes(seed):
    chance = random.Random(seed)
    disk = Disk([*MANY, 2**63 - 1])
    presence = Presence(disk, max_bytes=64 << 20, pause=0.0)
    for happening in chance.choices(HAPPENINGS, weights=[8, 8, 8, 8, 8, 1, 4, 4, 1, 2], k=60):
        match happening:
            case "put":
                put_some(disk, chance)
            case "work":
                disk.work(chance.choice([1, 45]))
            case "turn":
                await asyncio.sleep(0)
            case "evict":
                disk.database.execute("DELETE FROM replies WHERE hash % 2")
            case "ask":
                assert not [hashed for hashed in disk.rows() if presence.lacks(hashed)]
            case "replace" | "replace by many":
                disk.replace(MANY if happening == "replace by many" else ())
    while presence._scan is not None or presence._known != disk.generation:  # noqa: SLF001 - has it settled?
        presence.refresh()
        disk.work()
        await asyncio.sleep(0)
    assert not [hashed for hashed in disk.rows() if presence.lacks(hashed)]


@pytest.mark.anyio
async def test_what_is_put_after_the_last_step_is_not_denied():
    disk = Disk([])
    presence = Presence(disk, max_bytes=1, pause=0.0)
    presence.refresh()
    disk.work()
    disk.put(5)
    disk.work()  # before the loop is told that the step is done
    for _ in range(3):
        await asyncio.sleep(0)
    assert presence.lacks(6)
    assert not presence.lacks(5)


@pytest.mark.anyio
async def test_hashes_that_cannot_be_read_are_read_again_later():
    disk = Disk([1])
    presence = Presence(disk, max_bytes=1, pause=0.05)
    presence.refresh()
    disk.queue.popleft()[1].set_exception(StoreDown("busy"))
    await asyncio.sleep(0)
    assert not presence.lacks(2)
    assert not disk.queue, "not at once"
    await anyio.sleep(0.06)
    assert not presence.lacks(2)
    while disk.queue:
        disk.work()
        await asyncio.sleep(0)
    assert presence.lacks(2)
    assert not presence.lacks(1)
    assert repr(presence) == "<Presence of file 1, <BloomFilter 1 in 1024 bytes>, enough with 129>"


def test_an_index_out_of_order_is_a_broken_file():
    disk = Disk([1, 2])
    disk.database.executescript("DROP TABLE replies; CREATE TABLE replies (hash); INSERT INTO replies VALUES (1), ('x')")
    with pytest.raises(BrokenFile, match="out of order"):
        Scan(1, 1024).step(disk.database)

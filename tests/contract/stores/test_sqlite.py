"""What the disk tier promises beside the port: its file, its bounds, its queue, its end."""

import asyncio
import contextlib
import itertools
import sqlite3
import stat
import threading
import time
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import msgspec
import pytest

from sentinel_gateway.core.browsing import FOREVER
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores import _sqlite_writer
from sentinel_gateway.stores._sqlite_file import CacheFile
from sentinel_gateway.stores._sqlite_rows import BYTES_AT_ONCE, ROWS_AT_ONCE, count, hash_of, put
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore
from tests.contract.stores.conftest import NOW, PATIENT, Told, make_entry, open_sqlite, until

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def ask(folder, *statements):
    """Look into the file, or change it, behind the store's back."""
    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    try:
        return [database.execute(statement).fetchone() for statement in statements][-1]
    finally:
        database.close()


async def store_one(folder, key="k"):
    """A file with one entry, closed."""
    store = await open_sqlite(folder, Told())
    store.put(make_entry(key))
    await store.close()


# The file


async def test_what_was_put_is_found_after_a_restart(tmp_path, told):
    await store_one(tmp_path)
    store = await open_sqlite(tmp_path, told)
    assert await store.get("k") == make_entry("k")
    await store.close()
    assert told.events == []


async def test_what_was_made_in_the_future_answers_nobody_and_is_kept(tmp_path, told):
    """Its age is unknown. A clock that is behind may be put right, so all of it stays; what is pinned lasts anyway, and a minute
    is no fault of the clock."""
    later = NOW + 3600
    store = await open_sqlite(tmp_path, told, clock=lambda: later)
    for key, created, expires in [("1", later, later + 3600), ("2", later, later + 3600), ("pinned", later, FOREVER)]:
        store.put(make_entry(key, created=created, expires=expires))
    store.put(make_entry("a little", created=NOW + 30, expires=NOW + 3600))
    await store.close()
    keys = ("pinned", "a little", "1", "2")
    store = await open_sqlite(tmp_path, told)
    assert {key for key in keys if await store.get(key)} == {"pinned", "a little"}
    assert await store.count() == len(keys)
    await until(lambda: told.names == ["store_clock_behind"])
    assert told.fields("store_clock_behind")["entries"] == 2
    store.put(make_entry("1", created=NOW, expires=NOW + 3600))
    await store.flush()
    assert await store.get("1"), "asked again, it is there"
    await store.close()
    store = await open_sqlite(tmp_path, told, clock=lambda: later)
    assert await store.get("2"), "the clock was put right"
    await store.close()


async def test_what_was_made_in_the_future_is_the_first_to_leave(tmp_path, told):
    """Left to its age, it would keep the room for years, and everything new would leave in its place."""
    later, limits = NOW + 1e9, SqliteLimits(max_bytes=4 * MIB, deadline=5.0)
    store = await open_sqlite(tmp_path, told, limits=limits, clock=lambda: later)
    for number in range(800):
        store.put(make_entry(f"{number}", created=later, expires=later + 3600, body=bytes(3000)))
    await store.close()
    store = await open_sqlite(tmp_path, told, limits=limits)
    for number in range(500):
        store.put(make_entry(f"new {number}", body=bytes(3000)))
        if number % 100 == 99:
            await store.flush()
    await store.flush()
    await store.flush()  # the second waits for the upkeep after the first
    assert await store.count() < 1200, "some had to leave"
    assert [number for number in range(500) if not await store.get(f"new {number}")] == []
    await store.close()


async def test_nobody_else_may_read_the_files(tmp_path, told):
    folder = tmp_path / "new" / "folder"
    store = await open_sqlite(folder, told)
    store.put(make_entry("k"))
    await store.flush()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    await store.close()
    assert modes == dict.fromkeys(["cache.db", "cache.db-wal", "cache.db-shm", "cache.lock"], 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_file_open_to_all_is_closed_to_them(tmp_path, told):
    await store_one(tmp_path)
    (tmp_path / "cache.db").chmod(0o666)
    store = await open_sqlite(tmp_path, told)
    await store.close()
    assert stat.S_IMODE((tmp_path / "cache.db").stat().st_mode) == 0o600


async def test_closing_leaves_one_whole_file(tmp_path):
    await store_one(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.db", "cache.lock"]
    assert ask(tmp_path, "PRAGMA integrity_check") == ("ok",)


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path, told):
    await store_one(tmp_path)
    ask(tmp_path, "PRAGMA user_version = 7")
    with pytest.raises(ConfigurationError, match=r"cache\.db: was written by a newer Sentinel \(schema 7; this one knows 4\)"):
        await open_sqlite(tmp_path, told)
    assert ask(tmp_path, "PRAGMA user_version", "SELECT count(*) FROM replies") == (1,)
    await store_one(tmp_path / "other")  # nothing is left running that would hold the next one up


async def test_an_older_file_is_made_anew(tmp_path, told):
    await store_one(tmp_path)
    ask(tmp_path, "DROP TABLE questions", "PRAGMA user_version = 1")
    store = await open_sqlite(tmp_path, told)
    assert await store.count() == 0
    store.put(make_entry("new", scope="s", text="?"))
    await store.flush()
    assert await store.get("new") is not None
    await store.close()
    assert ask(tmp_path, "PRAGMA user_version") == (4,)
    assert ask(tmp_path, "SELECT count(*) FROM questions") == (1,)
    assert told.events == []


async def test_somebody_elses_database_is_set_aside(tmp_path, told):
    ask(tmp_path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (42)")
    store = await open_sqlite(tmp_path, told)
    assert await store.count() == 0
    await store.close()
    assert told.names == ["store_file_corrupt"]
    (tmp_path / "cache.db.corrupt-1").rename(tmp_path / "cache.db")
    assert ask(tmp_path, "SELECT x FROM theirs") == (42,)


async def test_two_processes_never_share_a_file(sqlite, tmp_path):
    sqlite.put(make_entry("k"))
    await sqlite.flush()
    told = Told()
    second = await open_sqlite(tmp_path, told)
    with pytest.raises(StoreDown):
        await second.get("k")
    assert "another process uses this folder" in told.fields("store_writes_failed")["reason"]
    await sqlite.close()
    await until(lambda: "without its file" not in repr(second))
    assert await second.get("k") == make_entry("k")
    await second.close()


# Bounds


async def test_the_oldest_go_when_the_bytes_are_spent(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(max_bytes=4 * MIB, deadline=5.0))
    keys = [str(n) for n in range(2500)]
    for n, key in enumerate(keys):
        store.put(make_entry(key, body=bytes(3000), created=NOW - len(keys) + n))
        if n % 250 == 249:
            await store.flush()
    await store.flush()
    await store.flush()  # the second waits for the upkeep after the first
    kept = [key for key in keys if await store.get(key) is not None]
    await store.close()
    assert 800 < len(kept) < 1400
    assert kept == keys[-len(kept) :]
    assert (tmp_path / "cache.db").stat().st_size < 6 * MIB
    assert told.events == []
    assert store.dropped == 0


async def test_the_oldest_by_age_go_whenever_they_were_put(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(max_bytes=MIB, deadline=5.0))
    store.put(make_entry("new", created=NOW + 1))
    for n in range(600):
        store.put(make_entry(str(n), body=bytes(3000), created=NOW))
    await store.flush()
    await store.flush()
    assert await store.count() < 400
    assert await store.get("new") is not None
    await store.close()


async def test_expired_entries_leave_the_file(tmp_path, told):
    clock = itertools.count(NOW)
    store = await open_sqlite(tmp_path, told, clock=lambda: next(clock))
    for n in range(1200):
        store.put(make_entry(str(n), expires=NOW + 3000))
    store.put(make_entry("stays", expires=NOW + 86_400))
    await store.flush()
    assert await store.count() == 1201
    clock = itertools.count(NOW + 3601)
    await store.flush()
    with anyio.fail_after(10):
        while await store.count() > 1:
            await store.flush()
    assert await store.get("stays") is not None
    await store.close()


async def test_what_may_serve_when_it_has_expired_stays_for_longer(tmp_path, told):
    clock = itertools.count(NOW)
    limits = msgspec.structs.replace(PATIENT, stale=3600.0)
    store = await open_sqlite(tmp_path, told, limits=limits, clock=lambda: next(clock))
    store.put(make_entry("k", expires=NOW + 3000))
    store.put(make_entry("gone", expires=NOW - 1200))
    await store.flush()
    clock = itertools.count(NOW + 3601)
    with anyio.fail_after(10):
        while await store.count() > 1:
            await store.flush()
    assert await store.get("k") == make_entry("k", expires=NOW + 3000)
    await store.close()


@pytest.mark.parametrize("selector", [Selector(), Selector(model="openai/gpt")])
async def test_a_cleared_file_becomes_small_again(sqlite, tmp_path, selector):
    for n in range(4000):
        sqlite.put(make_entry(str(n), body=bytes(4000)))
    await sqlite.flush()
    file = tmp_path / "cache.db"
    assert file.stat().st_size + file.with_name("cache.db-wal").stat().st_size > 16 * MIB
    assert await sqlite.clear(selector, NOW) == 4000
    await until(lambda: file.stat().st_size < 6 * MIB)
    assert ask(tmp_path, "PRAGMA page_count")[0] * 4096 < 6 * MIB


async def test_whoever_writes_waits_several_times_as_long_as_it_has_worked(tmp_path, told, monkeypatch):
    waits, work = [], itertools.count(1.0, 0.003)
    clock = SimpleNamespace(sleep=waits.append, thread_time=lambda: next(work), monotonic=time.monotonic)
    monkeypatch.setattr(_sqlite_writer, "time", clock)
    store = await open_sqlite(tmp_path, told)
    for number in range(5):
        store.put(make_entry(str(number), body=bytes(BYTES_AT_ONCE)))  # each goes in by itself
    await store.flush()
    assert waits == pytest.approx([0.012] * 5)
    await store.close()


async def test_many_rows_go_in_by_one_statement_unless_they_are_large(tmp_path):
    """Each statement gives up the interpreter, and the event loop waits for it while the rows of one are made."""
    file, breaths, learned = CacheFile(tmp_path), [], []
    with contextlib.closing(file.open()) as database:
        small, large = make_entry("small"), make_entry("large", body=bytes(BYTES_AT_ONCE // 2))
        for entries, statements in [([small] * (2 * ROWS_AT_ONCE + 1), 3), ([large] * 5, 3), ([large, small, large], 1)]:
            breaths.clear()
            assert put(database, entries, lambda: breaths.append(1), learned.extend) == 0
            assert len(breaths) == statements
        assert count(database) == 2
        assert set(learned) == {hash_of("small"), hash_of("large")}
    file.release()


async def test_the_last_of_several_under_one_key_stays_with_its_question(sqlite):
    """Whether or not they go in together."""
    for number in range(2 * ROWS_AT_ONCE):
        key = f"{number % 7}"
        sqlite.put(make_entry(key, scope="s", text=f"old {number}"))
        sqlite.put(make_entry(key, scope="s" if number % 2 else "", text=f"new {number}"))
        sqlite.put(make_entry(key, scope="s", text="never", prompt_tokens=2**64))
    with pytest.raises(StoreDown, match=f"{2 * ROWS_AT_ONCE} entries or vectors could not be written"):
        await sqlite.flush()
    last = {f"{number % 7}": number for number in range(2 * ROWS_AT_ONCE)}
    for key, number in last.items():
        assert await sqlite.get(key) == make_entry(key, scope="s" if number % 2 else "", text=f"new {number}")
    asked = {head.key: head.text async for page in sqlite.heads(model="mini") for head, _ in page}
    assert asked == {key: f"new {number}" for key, number in last.items() if number % 2}
    assert await sqlite.count() == len(last)


async def test_at_its_end_it_writes_without_a_pause(tmp_path, told, monkeypatch):
    monkeypatch.setattr(_sqlite_writer, "breath", lambda _: 600.0)
    store, go_on = await open_sqlite(tmp_path, told), threading.Event()
    writer = store._writer  # noqa: SLF001 - held up until it is told to stop, so that all is still before it
    writer.read(lambda _: go_on.wait(), asyncio.get_running_loop().create_future())
    for number in range(48):
        store.put(make_entry(str(number)))
    closing = asyncio.create_task(store.close())
    await until(lambda: writer._stopping)  # noqa: SLF001 - as above
    go_on.set()
    await closing
    assert told.events == []
    assert ask(tmp_path, "SELECT count(*) FROM replies") == (48,)


async def test_a_full_queue_drops_the_newest_counts_and_tells_once(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(queue_entries=100, deadline=5.0))
    for n in range(5000):
        store.put(make_entry(str(n)))
    assert store.dropped > 0
    await until(lambda: "0 queued" in repr(store))
    assert await store.count() == 5000 - store.dropped
    assert await store.get("0") is not None
    await store.close()
    assert told.names == ["store_queue_full"]


async def test_the_queue_is_bounded_by_bytes_too(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(queue_bytes=MIB, deadline=5.0))
    store.put(make_entry("huge", body=bytes(MIB + 1)))
    assert store.dropped == 1
    for n in range(20):
        store.put(make_entry(str(n), body=bytes(100_000)))
        await store.flush()
    assert store.dropped == 1
    assert await store.count() == 20
    await store.close()


async def test_what_cannot_be_encoded_is_dropped_alone(sqlite):
    sqlite.put(make_entry("before"))
    sqlite.put(make_entry("k", writer="\ud800"))
    sqlite.put(make_entry("k", prompt_tokens=2**64))
    sqlite.put(make_entry("nan", created=float("nan"), expires=float("inf")))
    sqlite.put(make_entry("after"))
    with pytest.raises(StoreDown, match="2 entries or vectors could not be written"):
        await sqlite.flush()
    await sqlite.flush()
    assert sqlite.dropped == 2
    assert await sqlite.count() == 3
    assert await sqlite.get("after") is not None


# Its end


async def test_closing_writes_what_was_taken(tmp_path, told):
    store = await open_sqlite(tmp_path, told)
    for n in range(1000):
        store.put(make_entry(str(n)))
    await store.close()
    assert ask(tmp_path, "SELECT count(*) FROM replies") == (1000,)


async def test_closing_ends_both_threads(tmp_path, told):
    before = set(threading.enumerate())
    store = await open_sqlite(tmp_path, told)
    assert len(set(threading.enumerate()) - before) == 2
    await store.close()
    await store.close()
    await until(lambda: set(threading.enumerate()) <= before)


async def test_a_closed_store_is_down_and_takes_nothing(tmp_path, told):
    store = await open_sqlite(tmp_path, told)
    await store.close()
    store.put(make_entry("k"))
    for attempt in (store.get("k"), store.count(), store.ping(), store.flush(), store.clear(Selector(), NOW)):
        with pytest.raises(StoreDown):
            await attempt
    assert store.dropped == 1
    assert told.events == []


async def test_a_caller_who_leaves_harms_nobody(sqlite):
    sqlite.put(make_entry("k"))
    await sqlite.flush()
    for _ in range(50):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(sqlite.get, "k")
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert await sqlite.get("k") == make_entry("k")


async def test_an_answer_that_waits_for_a_late_event_loop_is_not_given_up(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(deadline=0.2))
    store.put(make_entry("k"))
    await store.flush()
    found = []

    async def look_up():
        found.append(await store.get("k"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(look_up)
        await anyio.lowlevel.checkpoint()
        time.sleep(0.7)  # noqa: ASYNC251 - this is the fault
    assert found == [make_entry("k")] * 10
    await store.close()
    assert told.events == []


async def test_looking_up_goes_on_while_everything_is_cleared(tmp_path, told):
    for n in range(20):  # each time the first look-up may meet another moment of it
        store = await open_sqlite(tmp_path / str(n), told, limits=PATIENT)
        store.put(make_entry("k"))

        async def look_up(store=store):
            for _ in range(200):
                assert await store.get("k") in (make_entry("k"), None)

        async with anyio.create_task_group() as group:
            group.start_soon(look_up)
            assert await store.clear(Selector(), NOW) == 1
            assert await store.get("k") is None
        await store.close()
    assert told.events == []


async def test_a_look_up_after_a_clear_lets_go_of_the_old_file_and_not_of_the_new_log(sqlite, tmp_path):
    sqlite.put(make_entry("old"))
    await sqlite.flush()
    assert await sqlite.get("old") is not None
    await sqlite.clear(Selector(), NOW)
    sqlite.put(make_entry("new"))
    await sqlite.flush()
    assert await sqlite.get("new") is not None
    assert (tmp_path / "cache.db-wal").stat().st_size > 0


async def test_it_tells_its_state(tmp_path, told):
    store: SqliteStore = await open_sqlite(tmp_path, told, limits=PATIENT)
    await store.flush()  # by now the file has been read
    assert repr(store) == (f"<SqliteStore {tmp_path}/cache.db open, 0 queued, 0 dropped, <Breaker closed, 0 failures in a row>>")
    await store.close()
    assert "cache.db closed" in repr(store)


async def test_an_entry_larger_than_all_of_the_file_pushes_nothing_out(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(deadline=5.0, max_bytes=100_000))
    assert store.put(make_entry("small", body=bytes(1000)))
    assert not store.put(make_entry("large", body=bytes(100_001)))
    await store.flush()
    assert await store.get("small") is not None
    assert store.dropped == 1
    await store.close()

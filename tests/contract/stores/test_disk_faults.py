"""The disk is full, frozen, read-only, deleted, replaced or damaged: the traffic goes on, and the store comes back by itself."""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._sealing import seal
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore
from tests.contract.stores.conftest import NOW, PATIENT, Told, make_entry, open_sqlite, until

pytestmark = pytest.mark.anyio

HASTY = SqliteLimits(deadline=0.2, short_deadline=0.5, pause=0.3)
"""So short that a test can wait for them, and so long that no machine that is busy is a frozen disk."""
ROW_500, ROW_1 = b"\x83\x74", b"\x80\x01"
"""A row's number as the file holds it."""
RECORD_HEAD = b"\x05\x00\x00\x00\x00"
"""What stands before the values of a question: its own length, no value for the id, a blob (two bytes), no vector."""
CALM = SqliteLimits(deadline=5.0, pause=0.2)

HOLDER = """
import fcntl, sqlite3, sys
kind, path = sys.argv[1:]
if kind == "log":  # all the locks that a reader or writer of the write-ahead log needs
    file = open(path + "-shm", "r+b")
    fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)
else:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process_holds(path: Path, kind: str) -> Iterator[None]:
    """A lock on the file, until the block is left; to whoever waits for it the disk is frozen."""
    command = [sys.executable, "-c", HOLDER, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate("")
    assert process.returncode == 0


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False).returncode == 0
        return mounted and subprocess.run(["umount", folder], check=True).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextlib.contextmanager
def no_file_grows_over(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


MOUNTABLE = ["tmpfs"] if os.geteuid() == 0 and can_mount() else []
"""What only root can try; everybody tries the rest."""


@contextlib.contextmanager
def full_disk(kind: str, folder: Path) -> Iterator[None]:
    with filled(folder) if kind == "tmpfs" else no_file_grows_over(64 << 10):
        yield


async def put_in_vain(store: SqliteStore) -> None:
    """Puts until some were lost; none of them raises."""
    for n in range(600):
        store.put(make_entry(f"vain-{n}", body=bytes(4000)))
    with pytest.raises(StoreDown):
        await store.flush()


async def comes_back(store: SqliteStore, told: Told) -> None:
    """New entries are kept again, and it was told."""

    async def kept() -> bool:
        nonlocal promised
        promised = store.put(make_entry("again"))
        with contextlib.suppress(StoreDown):
            await store.flush()
            return await store.get("again") is not None
        return False

    promised = False
    deadline = time.monotonic() + 60
    while not await kept() or not promised or "store_writes_resumed" not in told.names:
        assert time.monotonic() < deadline, "it did not come back"
        await anyio.sleep(0.02)


@pytest.mark.parametrize("kind", ["limit", *MOUNTABLE])
async def test_a_full_disk_loses_new_entries_only(tmp_path, told, kind):
    with small_disk(tmp_path) if kind == "tmpfs" else contextlib.nullcontext():
        store = await open_sqlite(tmp_path, told, limits=CALM)
        store.put(make_entry("before"))
        await store.flush()
        with full_disk(kind, tmp_path):
            await put_in_vain(store)
            await put_in_vain(store)
            assert store.dropped > 0
            assert not store.put(make_entry("vain")), "it is tried, but not promised to stay"
            assert await store.get("before") == make_entry("before")
            assert await store.get("nothing") is None
            await store.ping()
            assert told.names == ["store_writes_failed"]
        await comes_back(store, told)
        assert told.names == ["store_writes_failed", "store_writes_resumed"]
        assert told.fields("store_writes_resumed")["lost"] == store.dropped
        assert await store.get("before") == make_entry("before")
        await store.close()
        database = sqlite3.connect(tmp_path / "cache.db")
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.close()


async def test_a_disk_on_the_brink_is_told_of_once(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(deadline=5.0, pause=30.0))
    for _ in range(3):
        with no_file_grows_over(64 << 10):
            await put_in_vain(store)
        store.put(make_entry("k"))
        await store.flush()
    await store.close()
    assert told.names == ["store_writes_failed"]


async def test_a_full_disk_can_be_cleared(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=CALM)
    for n in range(100):
        store.put(make_entry(str(n), body=bytes(4000)))
    await store.flush()
    with no_file_grows_over(256 << 10):
        await put_in_vain(store)
        assert await store.clear(Selector(), NOW) >= 100
        assert await store.get("0") is None
        store.put(make_entry("after"))
        await store.flush()
        assert await store.get("after") == make_entry("after")
    await store.close()


@pytest.mark.parametrize("kind", ["a file stands in its place", *(["tmpfs"] if MOUNTABLE else [])])
async def test_a_folder_that_cannot_be_written(tmp_path, told, kind):
    folder = tmp_path / "data"
    with contextlib.ExitStack() as stack:
        if kind == "tmpfs":
            folder.mkdir()
            stack.enter_context(small_disk(folder))
            remount(folder, "ro")
        else:
            folder.write_text("not a folder")
        store = await open_sqlite(folder, told, limits=CALM)
        for n in range(20):
            assert not store.put(make_entry(str(n)))
            with pytest.raises(StoreDown):
                await store.get(str(n))
        with pytest.raises(StoreDown):
            await store.count()
        assert sorted(told.names) == ["store_down", "store_writes_failed"]
        if kind == "tmpfs":
            remount(folder, "rw")
        else:
            folder.unlink()
        await comes_back(store, told)
        assert sorted(told.names) == ["store_down", "store_up", "store_writes_failed", "store_writes_resumed"]
        await store.close()


async def test_a_frozen_disk_costs_a_deadline_a_few_times_and_then_nothing(tmp_path, told, elapsed):
    store = await open_sqlite(tmp_path, told, limits=HASTY)
    store.put(make_entry("k"))
    await store.flush()
    with another_process_holds(tmp_path / "cache.db", "log"):
        started = elapsed()
        for n in range(HASTY.failures):
            with pytest.raises(StoreDown, match=r"no answer within 0\.2 s"):
                await store.get("k")
            assert elapsed() - started > (n + 1) * 0.18
        assert told.events == [("store_down", {"tier": "disk", "reason": "no answer within 0.2 s"})]
        started = elapsed()
        for n in range(2000):
            assert not store.put(make_entry(f"frozen-{n}")), "it waits for a disk that may not come back"
            with pytest.raises(StoreDown):
                await store.get("k")
        assert elapsed() - started < 2000 * HASTY.deadline / 4
        for attempt in (store.ping(), store.count()):
            with pytest.raises(StoreDown):
                await attempt
        assert told.names == ["store_down"]
    await until(lambda: "0 queued" in repr(store), 30)
    deadline = time.monotonic() + 60
    while "store_up" not in told.names and time.monotonic() < deadline:
        with contextlib.suppress(StoreDown):
            assert await store.get("k") == make_entry("k")
    assert told.names == ["store_down", "store_up"]
    assert store.dropped == 0
    await until_found(store, "frozen-1999")
    assert store.put(make_entry("after"))
    await store.close()


async def test_a_clear_does_not_wait_for_a_frozen_disk_and_happens_once_it_is_back(tmp_path, told, elapsed):
    store = await open_sqlite(tmp_path, told, limits=HASTY)
    store.put(make_entry("k"))
    await store.flush()
    with another_process_holds(tmp_path / "cache.db", "log"):
        store.put(make_entry("frozen"))
        started = elapsed()
        with pytest.raises(StoreDown, match=r"no answer within 0\.5 s"):
            await store.clear(Selector(model="openai/gpt"), NOW)
        assert elapsed() - started < HASTY.long_deadline / 3
    await until(lambda: "0 queued" in repr(store), 30)
    assert await store.count() == 0
    await store.close()


async def test_a_clear_waits_for_a_disk_that_is_slow_for_a_moment(tmp_path, told):
    """Longer than a look-up may: nobody is answered meanwhile, and "try again" is no answer to who clears."""
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(deadline=0.05, short_deadline=1.0))
    store.put(make_entry("k"))
    await store.flush()
    with another_process_holds(tmp_path / "cache.db", "log"):
        clearing = asyncio.create_task(store.clear(Selector(model="openai/gpt"), NOW))
        await asyncio.sleep(1.3)
        assert not clearing.done()
    assert await clearing == 1
    await store.close()


async def test_questions_on_a_frozen_disk_end_early_and_it_is_told(tmp_path, told, elapsed):
    limits = SqliteLimits(deadline=0.05, long_deadline=1.0)
    store = await open_sqlite(tmp_path, told, limits=limits)
    store.put(make_entry("k", scope="s", text="?"))
    await store.flush()
    with another_process_holds(tmp_path / "cache.db", "log"):
        started = elapsed()
        assert [page async for page in store.heads(model="mini")] == []
        assert elapsed() - started > 0.9
        store.keep_vectors([("k", b"frozen")], model="mini")
    assert told.events == [("store_questions_unread", {"tier": "disk", "reason": "no answer within 1 s"})]
    await until(lambda: "0 queued" in repr(store), 30)
    await store.flush()
    ((head, vector),) = [question async for page in store.heads(model="mini") for question in page]
    assert (head.key, vector) == ("k", b"frozen")
    await store.close()


async def test_questions_of_a_damaged_file_end_early_and_it_is_replaced(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=CALM)
    questions = {str(n): make_entry(str(n), scope="s", text="?" * 1000) for n in range(3000)}
    for entry in questions.values():
        store.put(entry)
    await store.flush()
    await store.flush()  # by now the file has been checked
    file = tmp_path / "cache.db"
    settle_log(file)
    pages = file.stat().st_size // 4096
    overwrite_pages(file, range(pages // 3, pages * 2 // 3))
    found = [question async for page in store.heads(model="mini") for question in page]
    assert len(found) < 3000
    assert all(head == questions[head.key].head() for head, _ in found)
    await until(lambda: sorted(told.names) == ["store_file_corrupt", "store_questions_unread"])
    store.put(make_entry("after", scope="s", text="?"))
    await store.flush()
    assert [head.key async for page in store.heads(model="mini") for head, _ in page] == ["after"]
    await store.close()


async def test_questions_whose_rows_lead_back_are_not_followed(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=CALM)
    entries = [make_entry(str(n), scope="s", text="?") for n in range(600)]
    for entry in entries:
        store.put(entry)
    await store.flush()
    await store.flush()  # by now the file has been checked
    file = tmp_path / "cache.db"
    settle_log(file)
    with file.open("r+b") as handle:
        content = handle.read()
        row = content.index(seal(entries[499].head())) - len(RECORD_HEAD) - len(ROW_500)
        assert content[row:].startswith(ROW_500 + RECORD_HEAD[:2])
        handle.seek(row)
        handle.write(ROW_1)
    assert [page async for page in store.heads(model="mini")] == []
    await until(lambda: sorted(told.names) == ["store_file_corrupt", "store_questions_unread"])
    await store.close()


async def until_found(store: SqliteStore, key: str) -> None:
    deadline = time.monotonic() + 60
    found = None
    while found is None:
        assert time.monotonic() < deadline
        with contextlib.suppress(StoreDown):
            found = await store.get(key)


async def test_a_file_that_is_locked_at_the_start_is_opened_later(tmp_path, told, elapsed):
    await (await open_sqlite(tmp_path, told)).close()
    with another_process_holds(tmp_path / "cache.db", "file"):
        started = elapsed()
        store = await open_sqlite(tmp_path, told, limits=HASTY)
        assert elapsed() - started < 20
        with pytest.raises(StoreDown):
            await store.get("k")
        await until(lambda: told.names == ["store_writes_failed"])
    await comes_back(store, told)
    await store.close()


async def test_closing_a_frozen_disk_ends_in_time(tmp_path, told, elapsed):
    limits = SqliteLimits(deadline=0.05, long_deadline=0.3)
    store = await open_sqlite(tmp_path, told, limits=limits)
    store.put(make_entry("k"))
    await store.flush()
    with another_process_holds(tmp_path / "cache.db", "log"):
        store.put(make_entry("frozen"))
        with pytest.raises(StoreDown):
            await store.get("k")
        started = elapsed()
        await store.close()
        assert elapsed() - started < 20
        assert told.names == ["store_close_failed"]
    await until(lambda: "0 queued" in repr(store), 30)


async def test_a_deleted_folder_is_made_again(tmp_path, told):
    folder = tmp_path / "data"
    store = await open_sqlite(folder, told, limits=CALM)
    store.put(make_entry("before"))
    await store.flush()
    shutil.rmtree(folder)
    await until(lambda: told.names == ["store_file_lost"])
    store.put(make_entry("after"))
    await store.flush()
    assert await store.get("after") == make_entry("after")
    assert await store.get("before") is None
    await store.close()
    assert (folder / "cache.db").stat().st_size > 0
    assert store.dropped == 0


@pytest.mark.parametrize("damage", ["replaced", "overwritten", "emptied"])
async def test_a_file_that_becomes_garbage_while_in_use(tmp_path, told, damage):
    file = tmp_path / "cache.db"
    store = await open_sqlite(tmp_path, told, limits=CALM)
    for n in range(50):
        store.put(make_entry(str(n), body=bytes(4000)))
    await store.flush()
    await store.clear(Selector(tag="none"), NOW)
    if damage == "replaced":
        (tmp_path / "garbage").write_bytes(garbage(50_000))
        (tmp_path / "garbage").replace(file)
    elif damage == "overwritten":
        settle_log(file)
        with file.open("r+b") as handle:
            handle.write(garbage(file.stat().st_size))
    else:
        settle_log(file)
        os.truncate(file, 0)
    deadline = time.monotonic() + 90
    while not {"store_file_corrupt", "store_file_lost"} & set(told.names):
        assert time.monotonic() < deadline
        store.put(make_entry("while"))
        for n in range(50):
            with contextlib.suppress(StoreDown):
                assert await store.get(str(n)) in (make_entry(str(n), body=bytes(4000)), None)
    while True:
        store.put(make_entry("after"))
        with contextlib.suppress(StoreDown):
            await store.flush()
            if await store.get("after") == make_entry("after"):
                break
        assert time.monotonic() < deadline
    await store.close()
    database = sqlite3.connect(file)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


async def test_damage_that_only_look_ups_meet(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=CALM)
    for n in range(3000):
        store.put(make_entry(str(n), body=bytes(1000)))
    await store.flush()
    await store.flush()  # by now the file has been checked
    file = tmp_path / "cache.db"
    settle_log(file)
    pages = file.stat().st_size // 4096
    overwrite_pages(file, range(pages // 3, pages * 2 // 3))
    for n in range(1000, 2000):
        with contextlib.suppress(StoreDown):
            assert await store.get(str(n)) in (make_entry(str(n), body=bytes(1000)), None)
    await until(lambda: "store_file_corrupt" in told.names)
    assert store.corrupt == 0
    await store.close()


def settle_log(file: Path) -> None:
    """Move everything from the log into the file, so that the damage to the file is met."""
    database = sqlite3.connect(file)
    assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    database.close()


async def damaged_file(folder: Path, damage: str) -> None:
    store = await open_sqlite(folder, Told())
    for n in range(200):
        store.put(make_entry(str(n), body=bytes(4000)))
    await store.close()
    file = folder / "cache.db"
    if damage == "garbage":
        file.write_bytes(garbage(50_000))
    elif damage == "head":
        with file.open("r+b") as handle:
            handle.write(bytes(100))
    else:
        overwrite_pages(file, range(file.stat().st_size // 8192, file.stat().st_size // 8192 + 1))


def garbage(size: int) -> bytes:
    """The same in each run: a page that chance has made may be a good one."""
    return random.Random(size).randbytes(size)


def overwrite_pages(file: Path, pages: range) -> None:
    with file.open("r+b") as handle:
        handle.seek(pages.start * 4096)
        handle.write(garbage(len(pages) * 4096))


@pytest.mark.parametrize("damage", ["garbage", "head", "a page in the middle"])
async def test_a_damaged_file_is_set_aside_at_the_start(tmp_path, told, damage):
    await damaged_file(tmp_path, damage)
    size = (tmp_path / "cache.db").stat().st_size
    store = await open_sqlite(tmp_path, told, limits=CALM)
    await until(lambda: told.names == ["store_file_corrupt"])
    assert told.fields("store_file_corrupt")["kept_as"] == "cache.db.corrupt-1"
    assert (tmp_path / "cache.db.corrupt-1").stat().st_size == size
    store.put(make_entry("after"))
    await store.flush()
    assert await store.get("after") == make_entry("after")
    assert await store.count() == 1
    await store.close()
    assert told.names == ["store_file_corrupt"]


async def test_only_three_damaged_files_are_kept(tmp_path, told):
    for n in range(5):
        (tmp_path / "cache.db").write_bytes(b"garbage %d" % n)
        store = await open_sqlite(tmp_path, told, limits=PATIENT)
        await store.flush()
        await store.close()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*corrupt*")}
    assert kept == {f"cache.db.corrupt-{n + 1}": b"garbage %d" % m for n, m in enumerate([0, 1, 4])}

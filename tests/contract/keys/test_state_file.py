"""`sentinel.db` when something is wrong with it, its folder or its neighbours."""

import asyncio
import contextlib
import fcntl
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from sentinel_gateway.core import issuance
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._state_file import MIGRATIONS
from tests.contract.keys import writer
from tests.contract.keys.conftest import OPERATOR, open_state
from tests.core.keys import GRANT, NOW, PEPPER, minted

pytestmark = pytest.mark.anyio

ROUNDS = 4
DEADLINE = 30.0


def start_writer(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, writer.__file__, str(folder), str(first), str(count)]
    root = Path(__file__).parents[3]
    kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kept | {"PYTHONPATH": f"{root}/src:{root}"})


def whole(folder: Path) -> bool:
    database = sqlite3.connect(folder / "sentinel.db")
    try:
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        database.close()


@pytest.fixture
async def state(tmp_path, anyio_backend):
    """The file: what follows is about it."""
    opened = await open_state(tmp_path)
    yield opened
    await opened.file.close()


async def refused(folder: Path, **changes) -> str:
    with pytest.raises(ConfigurationError) as error:
        await open_state(folder, **changes)
    [(place, sentence)] = error.value.faults
    assert place == str(folder / "sentinel.db")
    return sentence


# --- nothing is lost ---


def write_until_killed(folder: Path, first: int, seconds: float) -> list[int]:
    """The numbers that were told to be on the disk."""
    with start_writer(folder, first, 10**6) as process:
        assert select.select([process.stdout], [], [], DEADLINE)[0], "the writer never reported"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        reported, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return [int(line) for line in reported.splitlines(keepends=True) if line.endswith("\n")]


async def test_kill_9_loses_no_key_that_was_told(tmp_path):
    chance, made = random.Random(0), 0
    for _ in range(ROUNDS):
        told = write_until_killed(tmp_path, made, chance.uniform(0.0, 0.2))
        assert told[0] == made
        state = await open_state(tmp_path)
        kept = await state.ids()
        made = told[-1] + 1
        assert kept in ({minted(n)[0].id for n in range(made)}, {minted(n)[0].id for n in range(made + 1)})
        made = len(kept)
        log = await state.log.page(tenant=None, limit=10**6, cursor=None)
        assert sorted(entry.object for entry in log.entries) == sorted(kept)
        await state.file.close()
        assert whole(tmp_path)


async def test_two_processes_and_this_one_write_at_once(tmp_path):
    state = await open_state(tmp_path)
    with start_writer(tmp_path, 1000, 60) as one, start_writer(tmp_path, 2000, 60) as other:
        for number in range(60):
            await state.create(number)
        for process in (one, other):
            out, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0
            assert len(out.splitlines()) == 60
    kept = await state.keys.changes(None)
    assert {key.id for key in kept.keys} == {minted(start + n)[0].id for start in (0, 1000, 2000) for n in range(60)}
    assert kept.mark[1] == 180
    await state.file.close()
    assert whole(tmp_path)


async def test_a_commit_is_on_the_disk_when_it_is_told(state):
    assert await state.file.read(lambda database: database.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await state.file.read(lambda database: database.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


async def test_no_key_stands_in_any_file(tmp_path):
    state = await open_state(tmp_path)
    chance = Draw(os.urandom(8), os.urandom(32)), Draw(os.urandom(8), os.urandom(32))
    (key, text), (successor, other) = (Minter(PEPPER).mint(GRANT, draw, NOW) for draw in chance)
    await state.keys.create(key, issuance.create(OPERATOR, key))
    await state.keys.update(key.id, partial(issuance.rotate, caller=OPERATOR, successor=successor, overlap=5.0))
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert (tmp_path / "sentinel.db-wal").stat().st_size > 0
    await state.file.close()
    files += [path.read_bytes() for path in tmp_path.iterdir()]
    assert any(key.id.encode() in content for content in files)
    for secret in (text, other):
        for start in range(6, len(secret) - 12):
            assert not any(secret[start : start + 12].encode() in content for content in files)


async def test_only_this_user_can_read_it(state, tmp_path):
    await state.create(1)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("sentinel.db", "sentinel.db-wal", "sentinel.db-shm", "sentinel.lock"), "0o600"
    )


# --- what stops the start ---


async def test_a_file_of_a_newer_sentinel_is_left_alone(tmp_path):
    await (await open_state(tmp_path)).file.close()
    database = sqlite3.connect(tmp_path / "sentinel.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (tmp_path / "sentinel.db").read_bytes()
    assert f"newer Sentinel (schema 99; this one knows {len(MIGRATIONS)}): run that one" in await refused(tmp_path)
    assert (tmp_path / "sentinel.db").read_bytes() == before


async def test_a_database_of_another_program_is_left_alone(tmp_path):
    database = sqlite3.connect(tmp_path / "sentinel.db")
    database.execute("CREATE TABLE theirs (a)")
    database.close()
    assert "did not make" in await refused(tmp_path)


@pytest.mark.parametrize("damage", ["head", "middle", "text"])
async def test_a_damaged_file_is_told_and_kept(tmp_path, damage):
    state = await open_state(tmp_path)
    for number in range(200):
        await state.create(number)
    await state.file.close()
    path = tmp_path / "sentinel.db"
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"not a database, but long enough to be one" * 100)
    else:
        place = 0 if damage == "head" else len(content) // 2 & ~4095
        content[place : place + 4096] = random.Random(0).randbytes(4096)
    path.write_bytes(content)
    assert "put it back from a backup" in await refused(tmp_path)
    assert path.read_bytes() == content


async def test_keys_of_another_secret_would_all_be_wrong(tmp_path):
    await (await open_state(tmp_path)).file.close()
    assert "another secret" in await refused(tmp_path, secret=b"x" * 32)
    await (await open_state(tmp_path)).file.close()


def made_read_only(folder: Path, absent: Callable[[str], NoReturn]) -> contextlib.AbstractContextManager[None]:
    return mounted_read_only(folder, absent) if os.geteuid() == 0 else forbidden(folder)


@contextlib.contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    yield
    folder.chmod(0o700)


@contextlib.contextmanager
def mounted_read_only(folder: Path, absent: Callable[[str], NoReturn]) -> Iterator[None]:
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
        absent("the right to mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_folder_that_cannot_be_written_is_told(tmp_path, absent, begun):
    if begun:
        await (await open_state(tmp_path)).file.close()
    with made_read_only(tmp_path, absent):
        assert "make the file and its folder writable for this user" in await refused(tmp_path)
    await (await open_state(tmp_path)).file.close()


async def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    assert "make the file and its folder writable" in await refused(tmp_path / "file")
    assert "make the file and its folder writable" in await refused(tmp_path / "file" / "below")


# --- what passes ---


async def test_a_change_that_the_disk_does_not_take_is_told_and_not_kept(tmp_path):
    state = await open_state(tmp_path)
    key = await state.create(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "sentinel.db-wal").stat().st_size, before[1]))
    try:
        with pytest.raises(StoreDown, match=r"full|I/O error"):
            await state.create(1)
        assert await state.keys.get(key.id) == key
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await state.create(2)
    assert await state.ids() == {minted(n)[0].id for n in (0, 2)}
    await state.file.close()
    assert whole(tmp_path)


async def test_a_file_that_is_locked_is_waited_for_and_then_told(tmp_path):
    state = await open_state(tmp_path)
    holder = sqlite3.connect(tmp_path / "sentinel.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(StoreDown, match="locked"):
        await state.create(1)
    assert time.monotonic() - start > 2
    assert (await state.keys.changes(None)).keys == ()
    holder.execute("ROLLBACK")
    holder.close()
    key = await state.create(1)
    assert await state.keys.get(key.id) == key
    await state.file.close()


async def test_who_writes_holds_the_lock_that_all_processes_share(tmp_path):
    """SQLite's own locks allow a checkpoint beside a write, which old versions can't bear."""
    state = await open_state(tmp_path)
    descriptor = os.open(tmp_path / "sentinel.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StoreDown, match="another process has been writing"):
        await state.create(1)
    assert (await state.keys.changes(None)).keys == ()
    os.close(descriptor)
    await state.create(1)
    await state.file.close()


async def test_who_reads_does_not_wait_for_our_own_write_that_waits(tmp_path):
    state = await open_state(tmp_path)
    key = await state.create(0)
    with (tmp_path / "sentinel.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writing = asyncio.create_task(state.create(1))
        await asyncio.sleep(0.1)
        assert (await state.keys.changes(None)).keys == (key,)
        assert not writing.done()
    await writing
    await state.file.close()


async def test_who_only_reads_cannot_write_without_the_lock(state):
    with pytest.raises(StoreDown, match="readonly"):
        await state.file.read(lambda database: database.execute("DELETE FROM keys"))


async def test_a_file_that_is_locked_at_the_start_is_used_later(tmp_path):
    await (await open_state(tmp_path)).file.close()
    holder = sqlite3.connect(tmp_path / "sentinel.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    state = await open_state(tmp_path)
    holder.execute("ROLLBACK")
    holder.close()
    key = await state.create(1)
    assert await state.keys.get(key.id) == key
    await state.file.close()


async def test_a_file_that_vanishes_is_no_empty_one(tmp_path):
    """A gateway that began anew would refuse every key, and keep no trace of them."""
    state = await open_state(tmp_path)
    key = await state.create(1)
    aside = tmp_path / "aside"
    aside.mkdir()
    await state.file.read(lambda database: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    shutil.copy(tmp_path / "sentinel.db", aside)
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    for attempt in (state.keys.changes(None), state.create(2)):
        with pytest.raises(StoreDown, match="it is gone: put it back"):
            await attempt
    assert not (tmp_path / "sentinel.db").exists()
    before = state.file.history(None)
    shutil.copy(aside / "sentinel.db", tmp_path)
    changes = await state.keys.changes((before, 1))
    assert (changes.keys, changes.whole, state.file.history(None)) == ((key,), True, before + 1)
    await state.file.close()
    assert whole(tmp_path)


async def test_who_writes_to_a_file_that_was_replaced_writes_to_the_new_one(tmp_path):
    """Its old connection is closed long after the new file is in use, and must take nothing of that away."""
    state = await open_state(tmp_path)
    key = await state.create(1)
    await state.file.read(lambda database: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    (tmp_path / "aside").write_bytes((tmp_path / "sentinel.db").read_bytes())
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    (tmp_path / "aside").rename(tmp_path / "sentinel.db")
    other = await open_state(tmp_path)
    foreign = await other.create(2)
    assert await state.ids() == {key.id, foreign.id}
    own = await state.create(3)
    assert await state.ids() == await other.ids() == {key.id, foreign.id, own.id}
    for each in (state, other):
        await each.file.close()
    assert whole(tmp_path)
    again = await open_state(tmp_path)
    assert await again.ids() == {key.id, foreign.id, own.id}
    await again.file.close()


async def test_a_file_that_is_damaged_under_way_is_down_and_not_replaced(tmp_path):
    state = await open_state(tmp_path)
    await state.create(1)
    await state.file.read(lambda database: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    draft = tmp_path / "draft"
    draft.write_bytes(b"not a database, but long enough to be one" * 100)
    draft.replace(tmp_path / "sentinel.db")
    for _ in range(2):
        with pytest.raises(StoreDown, match="not a database"):
            await state.keys.changes(None)
    assert (tmp_path / "sentinel.db").read_bytes().startswith(b"not a database")
    await state.file.close()


async def test_after_the_end_nothing_waits_for_ever(tmp_path):
    state = await open_state(tmp_path)
    await state.create(1)
    await state.file.close()
    assert not (tmp_path / "sentinel.db-wal").exists()
    assert repr(state.file).endswith("without its file>")
    assert str(PEPPER) not in repr(state)

"""kill -9 in the middle of writing: what was said to be committed is there, whole, and nothing else is wrong."""

import random
import select
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.contract.stores import disk_writer
from tests.contract.stores.conftest import Told, knows_its_keys, open_sqlite
from tests.contract.stores.disk_writer import MODEL, entry_of, vector_of

ROUNDS = 4
UNDER_WAY = 400
"""Numbers after the last one reported that are looked at too."""
DEADLINE = 30.0


def write_until_killed(folder, first: int, seconds: float) -> int:
    """All numbers below the one returned were reported as committed."""
    command = [sys.executable, disk_writer.__file__, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert select.select([process.stdout], [], [], DEADLINE)[0], "the writer never reported"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        reported, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return max(int(line) for line in reported.splitlines(keepends=True) if line.endswith("\n"))


async def found(store, numbers) -> list:
    return [await store.get(entry_of(n).key) for n in numbers]


async def questions_are_whole(store, committed: int) -> None:
    """Each committed one has its vector, each other one its reply and its own vector or none; no reply lacks its question."""
    questions = {head.key: (head, vector) async for page in store.heads(model=MODEL) for head, vector in page}
    for n in range(committed + UNDER_WAY):
        entry = await store.get(entry_of(n).key)
        head, vector = questions.pop(entry_of(n).key, (None, None))
        assert head == (entry.head() if entry is not None and entry.scope else None)
        assert vector == (vector_of(head.key) if head is not None and (n < committed or vector is not None) else None)
    assert questions == {}


@pytest.mark.anyio
async def test_no_committed_entry_is_lost_or_mixed(tmp_path):
    chance = random.Random(0)
    committed = 0
    for _ in range(ROUNDS):
        before, committed = committed, write_until_killed(tmp_path, committed, chance.uniform(0.0, 0.25))
        assert committed > before
        assert (tmp_path / "cache.db-wal").stat().st_size > 0, "it was not killed while writing"
        told = Told()
        store = await open_sqlite(tmp_path, told)
        assert await found(store, range(committed)) == [entry_of(n) for n in range(committed)]
        under_way = range(committed, committed + UNDER_WAY)
        for n, entry in zip(under_way, await found(store, under_way), strict=True):
            assert entry in (entry_of(n), None)
        await knows_its_keys(store)
        assert await found(store, range(committed)) == [entry_of(n) for n in range(committed)]
        await questions_are_whole(store, committed)
        await store.close()
        assert told.events == []
        database = sqlite3.connect(tmp_path / "cache.db")
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.close()

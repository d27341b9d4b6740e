"""U4: `sentinel.db` of any older form opens with the keys that it holds, which work; a newer one is refused and left alone."""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentinel_gateway.stores._state_file import MIGRATIONS
from tests.contract.keys.conftest import open_state
from tests.process.conftest import serve
from tests.process.test_reach import command
from tests.upgrade.older import VERSIONS, copied, old_state

__all__ = ["serve"]

ROOT = Path(__file__).parents[2]
SECRET = "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d"
MILLION = 1_000_000
BAR = 30.0
STEPS = ("713678c6a0c8", "d98c4ef3d2fe", "ba62c73b4b76", "9636909f2aa0", "e52af6323ec6", "71fa73b35114")
"""What each step is: one that was released is never changed, for files that it made are out there."""
OPEN = """
import asyncio, sys
from pathlib import Path
from sentinel_gateway.stores._state_file import StateFile
async def main():
    state = await StateFile.open(Path(sys.argv[1]), secret=b"s" * 32)
    await state.close()
asyncio.run(main())
"""


def digests() -> list[str]:
    return [hashlib.sha256(step.encode()).hexdigest()[:12] for step in MIGRATIONS]


def ask(folder: Path, question: str) -> list[tuple]:
    database = sqlite3.connect(folder / "sentinel.db")
    try:
        return database.execute(question).fetchall()
    finally:
        database.close()


def test_no_step_was_changed():
    assert digests()[: len(STEPS)] == list(STEPS)
    assert len(MIGRATIONS) == len(STEPS), "write down the digest of the new step"


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_an_older_file_opens_with_all_that_it_holds(tmp_path, version):
    """As if it had been made today, and then left at that step."""
    old, new = tmp_path / "old", tmp_path / "new"
    state = await open_state(new)
    made = [await state.create(number) for number in range(3)]
    await state.file.close()
    old_state(old, version)
    copied(old, new, "facts", "keys", "audit")
    assert ask(old, "PRAGMA user_version") == [(version,)]
    state = await open_state(old)
    assert sorted((await state.keys.changes(None)).keys, key=lambda key: key.id) == sorted(made, key=lambda key: key.id)
    await state.file.close()
    assert ask(old, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    for table in ("audit", "sqlite_schema"):
        question = f"SELECT {'type, name, sql' if table == 'sqlite_schema' else '*'} FROM {table} ORDER BY 1, 2"
        assert ask(old, question) == ask(new, question)
    assert len(ask(old, "SELECT * FROM audit")) == 3


def test_keys_that_the_first_sentinel_kept_work(serve, tmp_path):
    old, new, shared = tmp_path / "old", tmp_path / "new", {"SENTINEL_SECRET": SECRET}
    made = command(tmp_path, "keys", "create", "--name", "first", SENTINEL_DATA_DIR=str(new), **shared)
    key = next(word for word in made.stdout.split() if word.startswith("sk-sn-"))
    old_state(old, 1)
    copied(old, new, "facts", "keys", "audit")
    program = serve(SENTINEL_DATA_DIR=str(old), SENTINEL_CACHE__SEMANTIC__ENABLED="false", **shared)
    assert program.request("GET", "/v1/models", authorization=f"Bearer {key}").status == 200
    assert program.request("GET", "/v1/models").status == 401


def test_what_a_newer_sentinel_wrote_is_refused_with_what_to_do(tmp_path):
    old_state(tmp_path / "data", len(MIGRATIONS))
    database = sqlite3.connect(tmp_path / "data" / "sentinel.db", isolation_level=None)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database.close()
    before = (tmp_path / "data" / "sentinel.db").read_bytes()
    refused = command(tmp_path, "serve", SENTINEL_DATA_DIR=str(tmp_path / "data"))
    assert refused.returncode == 2
    assert f"was written by a newer Sentinel (schema {len(MIGRATIONS) + 1}; this one knows {len(MIGRATIONS)})" in refused.stderr
    assert "run that one" in refused.stderr
    assert (tmp_path / "data" / "sentinel.db").read_bytes() == before


@pytest.mark.long
def test_a_million_rows_are_brought_up_to_date_in_time_whatever_kills_it(tmp_path):
    old_state(tmp_path, 2)
    database = sqlite3.connect(tmp_path / "sentinel.db", isolation_level=None)
    database.execute("BEGIN")
    row = "printf('%032x', n), 'r', 'acme', n, 's', 'e', 'o', 0.97, 'served', 0.0"
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MILLION})"
    database.execute(f"INSERT INTO decisions SELECT NULL, {row} FROM ({numbers} SELECT n FROM numbers)")
    database.execute("COMMIT")
    database.close()
    chance, kills = random.Random(1), 0
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    opening = [sys.executable, "-c", OPEN, str(tmp_path)]
    for _ in range(20):
        with subprocess.Popen(opening, env=environ, cwd=ROOT) as program:
            time.sleep(chance.uniform(0.1, 1.5))
            program.send_signal(signal.SIGKILL)
        kills += program.returncode == -signal.SIGKILL
    began = time.monotonic()
    subprocess.run(opening, env=environ, cwd=ROOT, check=True)
    took = time.monotonic() - began
    print(f"{kills} kills; {took:.1f} s for {MILLION} rows")
    assert kills
    assert ask(tmp_path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert ask(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(tmp_path, "SELECT count(*), count(DISTINCT id), max(budgets) FROM decisions") == [(MILLION, MILLION, "")]
    assert took <= BAR

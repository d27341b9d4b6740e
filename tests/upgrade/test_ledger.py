"""U4: a ledger of any older form is brought up to date with all that it holds, also by who comes after one that was killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.migrations import HEAD
from tests.upgrade.older import REVISIONS, engine, old_ledger

ROOT = Path(__file__).parents[2]
MILLION = 1_000_000
BAR = 30.0
"""Seconds for a million rows."""
OPEN = "import sys; from pathlib import Path; from sentinel_gateway.ledger.books import make_database; "
OPEN += "make_database(Path(sys.argv[1]), sys.argv[2] or None).open()"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


def tables(folder: Path, url: str | None) -> dict[str, list[tuple[str, str]]]:
    """Columns and their types by table, and what stands at the end."""
    found = sa.inspect(engine(folder, url))
    return {name: [(c["name"], str(c["type"])) for c in found.get_columns(name)] for name in sorted(found.get_table_names())}


def rows(folder: Path, url: str | None) -> dict[str, list[tuple]]:
    with engine(folder, url).connect() as connection:
        return {
            name: sorted(map(tuple, connection.execute(sa.text(f"SELECT * FROM {name}")))) for name in ("requests", "attempts")
        }


def bring_up_to_date(folder: Path, url: str | None) -> None:
    database = make_database(folder, url)
    database.open()
    database.close()


def step(folder: Path, url: str | None) -> str:
    with engine(folder, url).connect() as connection:
        return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))


def test_the_last_step_is_the_head():
    assert REVISIONS[-1] == HEAD


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_older_ledger_is_brought_up_to_date_with_its_rows(tmp_path, url, request, revision):
    (tmp_path / "new").mkdir()
    fresh = url and request.getfixturevalue("postgres").fresh()
    bring_up_to_date(tmp_path / "new", fresh)
    old_ledger(tmp_path, url, revision, rows=100)
    before = rows(tmp_path, url)
    assert step(tmp_path, url) == revision
    bring_up_to_date(tmp_path, url)
    assert (step(tmp_path, url), len(before["attempts"])) == (HEAD, 100)
    assert rows(tmp_path, url) == before
    assert tables(tmp_path, url) == tables(tmp_path / "new", fresh)


@pytest.mark.long
@pytest.mark.parametrize("revision", REVISIONS[:1])
def test_a_million_rows_are_brought_up_to_date_in_time_whatever_kills_it(tmp_path, url, revision):
    old_ledger(tmp_path, url, revision, rows=MILLION)
    chance, kills = random.Random(1), 0
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", OPEN, str(tmp_path), url or ""]
    for attempt in range(20):
        with subprocess.Popen(command, env=environ, cwd=ROOT) as opening:
            # Loading takes most of it: the moments are drawn around the rest.
            time.sleep(chance.uniform(0.2, 0.2 + attempt * 0.1))
            opening.send_signal(signal.SIGKILL)
        kills += opening.returncode == -signal.SIGKILL
        assert step(tmp_path, url) in {revision, HEAD}, "half of a step was kept"
    began = time.monotonic()
    subprocess.run(command, env=environ, cwd=ROOT, check=True)
    took = time.monotonic() - began
    print(f"{kills} kills; {took:.1f} s for {MILLION} rows from {revision}")
    assert kills
    assert step(tmp_path, url) == HEAD
    with engine(tmp_path, url).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM attempts")) == MILLION
    assert took <= BAR

"""`sentinel ledger`: exported as it was kept, to the last digit."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import parquet

from sentinel_gateway.cli.ledger import export, reconcile
from sentinel_gateway.ledger import sql
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.journal import Journal, JournalLimits
from sentinel_gateway.ports.ledger import Intent, Settled, Spent
from tests.cli.conftest import DATE, MIDNIGHT
from tests.ledger.rows import SECOND, START, asked, spent


@pytest.fixture
def exported(ledger, tmp_path):
    def run(*args):
        result = ledger("export", *args, "--output", str(tmp_path / "out"))
        assert (result.exit_code, result.stderr, result.stdout) == (0, "", ""), result
        return (tmp_path / "out").read_bytes()

    return run


def test_csv(exported):
    first, second = csv.DictReader(io.StringIO(exported("--table", "attempts").decode()))
    assert (first["id"], first["number"], first["model"], first["stream"]) == (f"{1:032x}", "1", "small", "false")
    assert (first["cost_usd"], first["reserved_usd"], first["priced"]) == ("0.000031", "0.0000009", "2026-11-22")
    assert second["cost_usd"] == "2.000000001"
    assert second["at"] == f"{DATE}T00:00:00Z"
    assert second["seconds"] == "0.0012"


def test_jsonl_has_numbers_to_the_last_digit(exported):
    lines = [json.loads(line, parse_float=Decimal) for line in exported("--table", "attempts", "--format", "jsonl").splitlines()]
    assert [line["cost_usd"] for line in lines] == [Decimal("0.000031"), Decimal("2.000000001")]
    assert lines[1]["at"] == f"{DATE}T00:00:00Z"


def test_a_file_is_replaced_once_all_of_it_is_there(ledger, exported, data, tmp_path):
    whole = exported()
    with closing(sqlite3.connect(data / "ledger.db")) as database:
        database.execute("ALTER TABLE requests DROP COLUMN saved")
    result = ledger("export", "--output", str(tmp_path / "out"))
    assert result.exit_code != 0
    assert "saved" in result.stderr
    assert (tmp_path / "out").read_bytes() == whole
    assert list(tmp_path.glob("out*")) == [tmp_path / "out"]


def test_what_is_no_file_is_written_to(ledger):
    assert ledger("export", "--output", "/dev/null").exit_code == 0


@pytest.mark.parametrize("args", [(), ("--output", "/dev/stdout")])
def test_who_has_seen_enough_of_it_may_leave(data, tmp_path, args):
    database = make_database(data, None)
    database.copy([spent(number) for number in range(3, 2000)])
    database.close()
    command = [sys.executable, "-m", "sentinel_gateway", "ledger", "export", "--table", "attempts", *args]
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environ |= {"SENTINEL_DATA_DIR": str(data), "HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"at,id,")
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 1)


def test_a_file_that_takes_no_more_is_not_the_ledger_s_fault(ledger):
    result = ledger("export", "--output", "/dev/full")
    assert (result.exit_code, result.stderr) == (2, "sentinel: /dev/full can't be written: No space left on device\n")


class Unreachable(type(Path())):
    """A file of a kind that has no number for what is wrong with it."""

    def open(self, *_, **__):
        raise OSError("the share is gone")


def test_what_is_wrong_with_a_file_is_told_also_where_it_has_no_number(data, monkeypatch, capsys):
    monkeypatch.setenv("SENTINEL_DATA_DIR", str(data))
    assert export("csv", "requests", None, None, output=Unreachable("out"), config=None) == 2
    assert reconcile(Unreachable("usage"), None, 0.01, None, as_json=False) == 2
    told = ["sentinel: out can't be written: the share is gone", "sentinel: usage can't be opened: the share is gone"]
    assert capsys.readouterr().err.splitlines() == told


def test_parquet(exported):
    table = parquet.read_table(pa.BufferReader(exported("--format", "parquet")))
    assert table.column("saved_usd").to_pylist() == [Decimal("0.000000017"), Decimal("0.000017500")]
    assert table.column("at").to_pylist()[1] == datetime.fromtimestamp(MIDNIGHT / SECOND, UTC)
    assert table.column("outcome").to_pylist() == ["exact", "exact"]


def test_days(data, ledger):
    database = make_database(data, None)
    while database.prune(MIDNIGHT):
        pass
    database.close()
    rows = list(csv.DictReader(io.StringIO(ledger("export", "--table", "days").stdout)))
    assert [(row["kind"], row["count"], row["cost_usd"], row["saved_usd"]) for row in rows] == [
        ("attempt", "1", "0.000031", "0"),
        ("request", "1", "0", "0.000000017"),
    ]


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ((), 2),
        (("--since", str(DATE)), 1),
        (("--until", str(DATE)), 1),
        (("--since", f"{DATE}T00:00:00.000001Z"), 0),
        (("--since", f"{DATE}T02:00+02:00"), 1),
    ],
)
def test_some_of_it(ledger, args, count):
    assert len(ledger("export", *args).stdout.splitlines()) == 1 + count


@pytest.mark.parametrize(
    ("args", "word"),
    [(("--format", "xml"), "csv, jsonl, parquet"), (("--table", "users"), "requests"), (("--since", "yesterday"), "2026-01-31")],
)
def test_what_can_not_be_understood(ledger, args, word):
    result = ledger("export", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert word in result.stderr


def test_what_would_be_a_formula_is_text(data, ledger):
    database = make_database(data, None)
    evil = Intent("f" * 32, 1, START, "=cmd()", "key_1", "/v1/query", "small", "mock", "mock-small")
    database.copy([Settled(evil, "answered", Spent())])
    database.close()
    rows = csv.DictReader(io.StringIO(ledger("export", "--table", "attempts").stdout))
    assert "'=cmd()" in {row["tenant"] for row in rows}


@pytest.mark.anyio
async def test_what_a_gateway_that_died_has_left_is_in_it(data, ledger, anyio_backend):
    journal = Journal(data / "journal", limits=JournalLimits(sync=0.0), on_event=print)
    journal.intend(asked(7))
    await journal.close()
    assert len(ledger("export", "--table", "attempts").stdout.splitlines()) == 3, "it lives"
    journal.release()
    result = ledger("export", "--table", "attempts")
    assert len(result.stdout.splitlines()) == 4
    assert ",orphan," in result.stdout
    assert "ledger_orphans" in result.stderr


@pytest.mark.anyio
async def test_where_nobody_is_served_what_was_left_is_copied_without_a_pause(data, ledger, anyio_backend, monkeypatch):
    pauses = []
    monkeypatch.setattr(sql, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    journal = Journal(data / "journal", limits=JournalLimits(sync=0.0), on_event=print)
    for number in range(10, 10 + 3 * sql.SIZES[0]):
        journal.settle(spent(number))
    await journal.close()
    journal.release()
    assert len(ledger("export", "--table", "attempts").stdout.splitlines()) == 3 + 3 * sql.SIZES[0]
    assert pauses == []


def test_a_database_that_is_away(sentinel, tmp_path):
    url = "postgresql://sentinel:hunter2@127.0.0.1:1/none"
    result = sentinel("ledger", "export", SENTINEL_DATA_DIR=str(tmp_path / "data"), SENTINEL_DATABASE_URL=url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "127.0.0.1" in result.stderr
    assert "hunter2" not in result.stderr

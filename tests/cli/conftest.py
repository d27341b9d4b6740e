"""The command line in a folder of its own, with an environment of its own."""

import os
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from sentinel_gateway.cli import main
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.tables import DAY
from tests.ledger.rows import SECOND, START, handled, spent

MIDNIGHT = START - START % DAY + DAY
DATE = datetime.fromtimestamp(MIDNIGHT / SECOND, UTC).date()
ROWS = [spent(1, cost=31_000), handled(1), spent(2, cost=2_000_000_001, at=MIDNIGHT), handled(2, saved=17_500, at=MIDNIGHT)]


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def sentinel(tmp_path, monkeypatch, capsys):
    """sentinel("check", "--json", PORT="1") runs a command; HOME is the test's folder, and the terminal has 80 columns."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name not in {"PATH", "LANG", "TMPDIR"}:
            monkeypatch.delenv(name)

    def run(*args, **env):
        with monkeypatch.context() as patch:
            for name, value in ({"HOME": str(tmp_path), "COLUMNS": "80"} | env).items():
                patch.setenv(name, value)
            try:
                code = main(args)
            except SystemExit as end:
                code = end.code
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def data(tmp_path):
    """The data folder, with two requests and two attempts, the second of a later day."""
    folder = tmp_path / "data"
    database = make_database(folder, None)
    database.copy(ROWS)
    database.close()
    return folder


@pytest.fixture
def ledger(sentinel, data):
    return lambda *args, **env: sentinel("ledger", *args, SENTINEL_DATA_DIR=str(data), **env)

"""The command line in a folder of its own, with an environment of its own."""

import os
from typing import NamedTuple

import pytest

from sentinel_gateway.cli import main


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

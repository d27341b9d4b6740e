"""The command line in a folder of its own, with an environment of its own."""

import os

import pytest
from typer.testing import CliRunner

from sentinel_gateway.cli import build


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """sentinel("check", "--json", PORT="1") runs a command; HOME is the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name not in {"PATH", "LANG", "TMPDIR"}:
            monkeypatch.delenv(name)

    def run(*args, **env):
        return CliRunner().invoke(build(), args, env={"HOME": str(tmp_path)} | env, catch_exceptions=False, prog_name="sentinel")

    return run

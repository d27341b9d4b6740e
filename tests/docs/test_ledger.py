"""docs/ledger.md says what the code says, and its commands work."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from sentinel_gateway.core.pricing import Basis
from sentinel_gateway.core.record import Ending
from sentinel_gateway.ledger.tables import METADATA
from sentinel_gateway.settings.model import Ledger
from tests.cli.conftest import sentinel
from tests.process.conftest import serve

__all__ = ["sentinel", "serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()


def test_tables_endings_and_settings_are_those_of_the_code():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(METADATA.tables)
    for word in (*get_args(Ending), "orphan", *get_args(Basis)):
        assert f"`{word}`" in PAGE
    for name in Ledger.model_fields:
        assert f"`ledger.{name}" in PAGE
    assert f"{Ledger().retention:g} days" in PAGE


def test_its_commands_are_understood(sentinel, tmp_path):
    commands = re.findall(r"^sentinel (ledger .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    (tmp_path / "usage.csv").write_text("date,model,requests\n2026-01-30,gpt-4o-mini,0\n")
    for command in commands:
        words = command.partition(" > ")[0].split()
        result = sentinel(*words, SENTINEL_DATA_DIR=str(tmp_path / "data"))
        assert (result.exit_code, result.stderr) == (0, ""), command


def test_what_was_asked_is_exported_and_backed_up(serve, tmp_path, absent):
    program = serve()
    for text in ("Hello", "Hello", "Good morning"):
        assert program.ask(text).status == 200
    program.stop()
    exporting = [sys.executable, "-m", "sentinel_gateway", "ledger", "export", "--format", "jsonl"]
    told = subprocess.run(exporting, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, check=True)
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(row["outcome"], row["model"], row["key"]) for row in rows] == [
        ("miss", "demo", "anybody"),
        ("exact", "demo", "anybody"),
        ("miss", "demo", "anybody"),
    ]
    if shutil.which("sqlite3") is None:
        absent("sqlite3, the program (apt-get install sqlite3)")
    [command] = re.findall(r"^sqlite3 (\S+) (\".*\")$", PAGE, re.MULTILINE)
    subprocess.run(["sqlite3", command[0].replace("~", str(tmp_path)), command[1].strip('"')], cwd=tmp_path, check=True)
    copy = sqlite3.connect(tmp_path / "ledger-backup.db")
    assert copy.execute("SELECT count(*) FROM requests").fetchone() == (3,)
    copy.close()


@pytest.mark.parametrize("word", ["prompt", "Hello"])
def test_no_words_of_callers_stand_in_it(serve, tmp_path, word):
    program = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"), SENTINEL_CACHE__DISK__ENABLED="false")
    assert program.ask(f"{word} {word} {word}").status == 200
    program.stop()
    files = [*(tmp_path / "data" / "journal").rglob("*.segment"), *(tmp_path / "data").glob("ledger.db*")]
    kept = b"".join(file.read_bytes() for file in files)
    assert b"/v1/chat/completions" in kept
    assert word.encode() not in kept.replace(b"prompt_tokens", b"")

"""docs/operations.md: its commands work, its codes and limits are those of the code."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel_gateway.api.wire.json_body import MAX_FIELDS, MAX_PARTS
from sentinel_gateway.settings.model import Server
from tests.docs.test_keys import ADMIN, GATEWAY, shell
from tests.docs.test_runbooks import codes
from tests.process.conftest import Program

__all__ = ["shell"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("operations"), {"SENTINEL_ADMIN_KEY": ADMIN})
    yield program
    program.stop()


def command(word: str) -> str:
    [block] = [block for block in COMMANDS if word in block]
    return block


def test_a_monitor_is_told_that_it_answers(program, shell):
    assert re.fullmatch(r"200 0\.\d+\n", shell(command("time_total").replace(GATEWAY, program.base_url), KEY="unused"))


def test_the_statistics_are_shown_as_they_are(program, shell):
    told = json.loads(shell(command("/admin/stats").replace(GATEWAY, program.base_url)))
    [shown] = re.findall(r"```json\n(.*?)```", PAGE.partition("## Administration")[2].partition("\n## ")[0], re.DOTALL)
    assert {part: set(below) for part, below in told.items()} == {part: set(below) for part, below in json.loads(shown).items()}


def test_load_is_made_and_measured(program):
    for line in command("bench.load").splitlines():
        words = line.replace(GATEWAY, program.base_url).replace("--seconds 5", "--seconds 0.5").split()
        done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        requests, good = re.match(r"(\d+) requests, (\d+) good", done.stdout).groups()
        assert int(requests) == int(good) > 10


def test_the_limits_are_the_defaults():
    server = Server()
    assert f"{server.max_in_flight:,}, and {server.queue} waiting up to {server.queue_wait:g} s" in PAGE
    assert f"{MAX_FIELDS:,} fields, {MAX_PARTS:,} keys and values; {server.body_timeout:g} s" in PAGE
    assert f"| connections | {server.max_connections:,} |" in PAGE


def test_every_code_of_an_error_is_one():
    table = PAGE.partition("## Errors")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| \d+ (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named - {"GROQ_API_KEY"} <= set(codes())
    assert len(named) > 25

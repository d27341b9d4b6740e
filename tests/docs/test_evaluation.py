"""docs/evaluation.md: every command in it works and shows what it says there, and every figure for programs is named."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from sentinel_gateway.evaluation import labelled
from sentinel_gateway.evaluation.advice import Suggestion
from sentinel_gateway.evaluation.log_replay import MOST_REQUESTS, Replayed
from sentinel_gateway.evaluation.measured import Evaluation
from sentinel_gateway.evaluation.offline import STORE_BYTES
from sentinel_gateway.evaluation.rows import LINE_BYTES
from sentinel_gateway.evaluation.stand_ins import COMPLETION_TOKENS

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """shell("sentinel ...") runs as it would in a terminal, in a folder of the test's own; what it said."""
    program = tmp_path / "bin" / "sentinel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sentinel_gateway "$@"\n')
    program.chmod(0o700)
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    env = kept | {"HOME": str(tmp_path), "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(script: str) -> str:
        ran = subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout

    return run


SCRIPTS = [text for kind, text in BLOCKS if kind == "sh"]


def test_every_command_works_and_shows_what_the_page_says(shell, tmp_path):
    said = "\n".join(map(shell, SCRIPTS[:3])).splitlines()
    promised = [line for kind, text in BLOCKS if kind == "" for line in text.splitlines()]
    assert [line for line in promised if line not in said] == []
    assert len(promised) >= 6
    assert {"pairs.html", "traffic.html"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.long
def test_programs_read_the_figures(shell):
    files = [script.rpartition("sentinel")[0] for script in (SCRIPTS[0], SCRIPTS[2])]
    said = shell("".join([*files, SCRIPTS[3]]))
    assert "{'trials': 5, 'hits': 2, 'wrong_hits': 0," in said
    assert "{'hits': 1, 'hit_rate': 0.3333333333333333," in said


def members(kind: type[msgspec.Struct]) -> Iterator[str]:
    """The names of all members, those of their values too."""
    for name, hint in kind.__annotations__.items():
        yield name
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from members(inner)


@pytest.mark.parametrize("kind", [Evaluation, Replayed, Suggestion])
def test_every_figure_for_programs_is_named(kind):
    _, _, figures = PAGE.partition("## Figures for programs")
    assert {name for name in members(kind) if f"`{name}`" not in figures and f".{name}`" not in figures} == set()


def test_every_name_of_a_column_is_told():
    _, _, table = PAGE.partition("| members | or | it is |")
    names = {*labelled.STORED, *labelled.ASKED, *labelled.LABEL, *labelled.QUESTION, *labelled.CLASS, labelled.CATEGORY}
    assert {name for name in names if f"`{name}`" not in table.partition("\n\n")[0]} == set()


def test_limits_are_as_the_page_says():
    words = " ".join(PAGE.split())
    bounds = labelled.Bounds()
    assert f"at most {bounds.pairs:,} pairs or {bounds.queries:,} questions are read" in words
    assert f"{bounds.characters // 10**6} million characters of text; a line may have {LINE_BYTES >> 20} MiB" in words
    assert f"({STORE_BYTES >> 20} MiB; {MOST_REQUESTS:,} requests are read at most)" in words
    assert f"({COMPLETION_TOKENS} tokens before there is one)" in words

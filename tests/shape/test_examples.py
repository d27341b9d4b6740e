"""Property tests draw the same examples in each run, whatever else runs; `make search` draws others, and finds each such test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNERS = {"run_state_machine_as_test", "runTest"}

DRAWS = """
from hypothesis import given, strategies as st
{more}

@given(st.lists(st.integers()), st.text())
def test_it(numbers, text):
    print("drawn", numbers, repr(text))
"""
LOADS_MORE = "import sentinel_gateway.core.limits"


@pytest.fixture
def drawn(tmp_path):
    """drawn(*options, more=""): what a test draws under the suite's rules, in a file that loads more of the code."""

    def run(*options: str, more: str = "") -> list[str]:
        (tmp_path / "test_it.py").write_text(DRAWS.format(more=more))
        command = [sys.executable, "-m", "pytest", "-qs", "-c", "pyproject.toml", "-p", "tests.conftest", *options]
        done = subprocess.run([*command, str(tmp_path / "test_it.py")], cwd=ROOT, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("drawn")]
        assert len(lines) == 100
        return lines

    return run


def test_each_run_draws_the_same(drawn):
    assert drawn() == drawn(more=LOADS_MORE)


def test_a_search_draws_what_its_seed_says(drawn):
    first, again, other = (drawn("--hypothesis-profile", "search", "--hypothesis-seed", seed) for seed in "112")
    assert first == again
    assert other != first != drawn() != other


def calls(function: ast.AST) -> set[str]:
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {getattr(one, "attr", getattr(one, "id", "")) for one in called}


def unmarked(text: str) -> list[str]:
    """Tests that have Hypothesis run something inside them, and don't bear its mark."""
    tests = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    marks = {test.name: {ast.unparse(one) for one in test.decorator_list} for test in tests}
    return [one.name for one in tests if calls(one) & RUNNERS and "pytest.mark.hypothesis" not in marks[one.name]]


def test_a_search_finds_every_state_machine():
    found = {path.name: unmarked(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {name: tests for name, tests in found.items() if tests} == {}

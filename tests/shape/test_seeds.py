"""docs/seeds.md tells the truth: each row names files and tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seeds.md"
COLUMNS = 3


def table_rows(page: str) -> list[list[str]]:
    """The cells of each table row below a header and its rule."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def ids_in(source: str) -> set[str]:
    """The test ids of one file, without its path: `test_a`, `TestB::test_c`."""
    names = set()
    for node in ast.parse(source).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = [m for m in members if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)]
        names |= {prefix + function.name for function in functions if function.name.startswith("test")}
    return names


def row_faults(row: list[str], root: Path) -> list[str]:
    """What is wrong with `item | where | tests`: every backticked word of the last two cells must exist below `root`."""
    if len(row) != COLUMNS:
        return [f"{len(row)} cells instead of {COLUMNS}"]
    places, tests = quoted(row[1]), quoted(row[2])
    faults = [f"no {what}" for what, names in (("place", places), ("test", tests)) if not names]
    faults += [f"no file {place}" for place in places if not (root / place).exists()]
    for test in tests:
        path, _, name = test.partition("::")
        file = root / path
        if not file.is_file():
            faults.append(f"no file {path}")
        elif name not in ids_in(file.read_text()):
            faults.append(f"no test {test}")
    return faults


@pytest.mark.parametrize("row", table_rows(PAGE.read_text()), ids=lambda row: row[0])
def test_row_names_what_exists(row):
    assert row_faults(row, ROOT) == []


def test_rows_leave_out_headers_and_rules():
    page = "# T\n| Item | Where | Test |\n|---|:-:|---|\n| a | `b` | `c` |\ntext | with | bars\n"
    assert table_rows(page) == [["a", "`b`", "`c`"]]


def test_names_are_those_pytest_would_collect():
    source = "def test_a(): ...\ndef helper(): ...\nclass TestB:\n    async def test_c(self): ...\n    def help(self): ...\n"
    assert ids_in(source) == {"test_a", "TestB::test_c"}


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        (["item", "`code.py`", "`test_it.py::test_a`, `test_it.py::TestB::test_c`"], []),
        (["item", "`gone.py`", "`test_it.py::test_a`"], ["no file gone.py"]),
        (["item", "`code.py`", "`test_gone.py::test_a`"], ["no file test_gone.py"]),
        (["item", "`code.py`", "`test_it.py::test_c`"], ["no test test_it.py::test_c"]),
        (["item", "`code.py`", "`test_it.py`"], ["no test test_it.py"]),
        (["item", "code.py", "later"], ["no place", "no test"]),
        (["item", "`code.py`"], ["2 cells instead of 3"]),
    ],
)
def test_a_wrong_row_is_noticed(tmp_path, row, faults):
    (tmp_path / "code.py").touch()
    (tmp_path / "test_it.py").write_text("def test_a(): ...\nclass TestB:\n    def test_c(self): ...\n")
    assert row_faults(row, tmp_path) == faults

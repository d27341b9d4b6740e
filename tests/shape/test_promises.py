"""docs/promises.md tells the truth: the tests that hold each promise exist, and so do the results that it names."""

import re
from pathlib import Path

import pytest

from tests.shape.test_seeds import ids_in, quoted, table_rows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"
ROWS = table_rows(PAGE.read_text())
PROMISES = 10
"""As many as the plan has."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_is_held_by_tests(row):
    assert all(row)
    named = [test for cell in row for test in quoted(cell) if test.startswith("tests/")]
    assert named
    for test in named:
        path, _, name = test.partition("::")
        assert name in ids_in((ROOT / path).read_text()), test


def test_each_promise_has_a_figure_and_none_is_left_out():
    assert len([row for row in ROWS if len(row) == 4]) == PROMISES


def test_every_result_that_it_names_is_there():
    named = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    assert len(named) > PROMISES
    assert [path for path in named if not (PAGE.parent / path).exists()] == []

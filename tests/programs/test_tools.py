"""The built-in agent's tools: right, bounded, and without a way to anything else."""

import time
from datetime import UTC, datetime

import pytest

from sentinel_gateway.programs.tools import LONGEST, calculator, days_between, today


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4"),
        ("0.1 + 0.2", "0.3"),
        ("(17 + 3) * 2.5", "50"),
        ("7 / 2", "3.5"),
        ("7 // 2", "3"),
        ("-7 % 3", "-1"),
        ("2 ** 10", "1024"),
        ("2 ^ 10", "1024"),
        ("6 \u00d7 7 \u00f7 2 \u2212 1", "20"),
        ("+-3", "-3"),
        ("1e3", "1000"),
        ("1e300 * 10", "1E+301"),
        ("1 / 3", "0.3333333333333333333333333333"),
        ("100000000000000000000000000", "100000000000000000000000000"),
    ],
)
def test_arithmetic(expression, value):
    assert calculator(expression) == value


NOT_ARITHMETIC = "This is no arithmetic"


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("1 / 0", "It divides by zero."),
        ("1 % 0", "It has no value"),
        ("9**9**9**9", "It has no value"),
        ("1e999999", "It has no value"),
        ("(0-1) ** 0.5", "It has no value"),
        ("", NOT_ARITHMETIC),
        ("two", NOT_ARITHMETIC),
        ("True + 1", NOT_ARITHMETIC),
        ("1 if 1 else 2", NOT_ARITHMETIC),
        ("'a' * 9", NOT_ARITHMETIC),
        ("1j", NOT_ARITHMETIC),
        ("[1][0]", NOT_ARITHMETIC),
        ("__import__('os')", NOT_ARITHMETIC),
        ("(lambda: 1)()", NOT_ARITHMETIC),
        ("1 << 9", NOT_ARITHMETIC),
        ("1; 2", NOT_ARITHMETIC),
        ("1\0", NOT_ARITHMETIC),
        ("(" * 150 + "1" + ")" * 49, NOT_ARITHMETIC),
        ("1" * (LONGEST + 1), "This is too long"),
    ],
)
def test_what_is_none_gets_a_sentence(expression, answer):
    start = time.monotonic()
    assert calculator(expression).startswith(answer)
    assert time.monotonic() - start < 5


def test_dates():
    before = datetime.now(UTC)
    told = today()
    assert told in {f"{at:%Y-%m-%d, %A}" for at in (before, datetime.now(UTC))}
    assert days_between("2026-01-31", "2026-03-01") == "29"
    assert days_between("2026-03-01", "2026-01-31") == "-29"
    assert days_between("2026-02-30", "2026-01-31").startswith("This is no date")

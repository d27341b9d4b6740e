"""Signs, capital letters, doers, conditions, words as words: each near miss is stopped, and what only looks like one passes."""

import pytest

from sentinel_gateway.core.guards import veto
from tests.guards.sign_slots import SMALL_CONTRASTS, SMALL_REWORDED

NEAR = [(kind, *pair) for kind, (_, pairs) in SMALL_CONTRASTS.items() for pair in pairs]


@pytest.mark.parametrize(("kind", "question", "stored"), NEAR)
def test_a_small_difference_is_another_question(kind, question, stored):
    assert veto(question, stored) is not None
    assert veto(stored, question) is not None


@pytest.mark.parametrize(("question", "stored"), SMALL_REWORDED)
def test_what_only_looks_so_passes(question, stored):
    assert veto(question, stored) is None
    assert veto(stored, question) is None


LINES = 30_000
"""Characters: thirty times what is ever compared."""


@pytest.mark.parametrize(
    ("question", "stored"),
    [
        (" ".join(f"`a_{n}`" for n in range(LINES // 8)), " ".join(f"a_{n}" for n in range(LINES // 6))),
        ("a+" * (LINES // 2), "a-" * (LINES // 2)),
        ("(" * LINES, "(1 + " * (LINES // 5)),
        ("1a/" * (LINES // 3), "1a/" * (LINES // 3) + "!"),
        ("**a " * (LINES // 4), "*a** " * (LINES // 5)),
        ("Polish I me " * (LINES // 12), "polish me I " * (LINES // 12)),
    ],
)
def test_a_long_text_is_only_a_longer_wait(question, stored):
    """Whatever takes a pass for each of its parts would be at it for minutes: the suite's own limit stops it."""
    assert veto(question, stored) == veto(stored, question)


def test_many_quotations_that_the_other_text_may_hold_are_not_all_looked_for():
    assert veto(" ".join(f"`a_{n}`" for n in range(20)), " ".join(f"a_{n}" for n in range(20))) is None
    assert veto(" ".join(f"`a_{n} b`" for n in range(20)), " ".join(f"a_{n} b" for n in range(20))) == "verbatim"

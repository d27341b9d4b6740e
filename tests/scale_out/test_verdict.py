"""The run's verdicts can be against it: each finds the one thing that it is there to find."""

import pytest

from tests.scale_out.load import Asked
from tests.scale_out.verdict import between_kills, limit, nobody_failed


def asked(sent: float, ended: float, *, problem: str = "", status: int = 200, stream: bool = False) -> Asked:
    return Asked("somebody", "What?", sent, ended=ended, problem=problem, status=status, stream=stream)


@pytest.mark.parametrize(
    ("failed", "held"),
    [
        ([], False),  # then nothing was under way, and nothing was shown
        ([asked(1, 3, problem="502")], True),
        ([asked(1, 3, problem="502", stream=True), asked(4, 6, problem="ClientPayloadError")], True),
        ([asked(1, 3, problem="502"), asked(2.1, 3, problem="502")], False),
        ([asked(1, 1.9, problem="502")], False),
    ],
)
def test_only_what_was_under_way_may_fail_with_a_node(failed, held):
    assert between_kills([asked(0, 1), *failed], [2.0, 5.0]).held is held


def test_one_failure_is_one_too_many_and_so_is_no_traffic():
    good = [asked(number, number + 1) for number in range(10)]
    assert nobody_failed("an act", good, at_least=10).held
    assert not nobody_failed("an act", [*good, asked(1, 2, problem="503")], at_least=10).held
    assert not nobody_failed("an act", good, at_least=11).held


def test_a_limit_that_lets_more_through_in_any_stretch_is_found():
    refused = asked(0, 0, status=429)
    bucket = [asked(0.1, 0.2)] * 60 + [asked(number, number + 0.1) for number in range(1, 200)]
    assert limit([*bucket, refused], 60).held
    assert not limit(bucket, 60).held, "a limit that nobody met says nothing"
    assert not limit([*bucket, *[asked(100.2, 100.3)] * 10, refused], 60).held

"""Rows of requests: what of a record they have."""

from msgspec.structs import replace

from sentinel_gateway.ledger.ended import rows_of
from tests.ledger.rows import ended, handled


def test_a_request_is_a_row():
    request = replace(ended(1), target="first/models/large", seconds=0.25, prompt_tokens=2**60)
    assert rows_of([ended(2), request]) == [
        handled(2),
        replace(handled(1), provider="first", target="models/large", duration=250_000, prompt_tokens=2**40),
    ]


def test_the_callers_own_name_for_it_is_kept():
    assert rows_of([replace(ended(1), request_id="order 7")]) == [replace(handled(1), request_id="order 7")]


def test_a_request_in_an_experiment_leaves_a_row_of_that_too():
    request, enrolled = rows_of([replace(ended(1), experiment="cheaper=small", unit=7)])
    assert request == handled(1)
    assert (enrolled.id, enrolled.experiment, enrolled.arm, enrolled.unit) == (request.id, "cheaper", "small", 7)

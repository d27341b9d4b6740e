"""What was asked and saved, as it is counted while a gateway runs."""

import pytest

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.costs import CostTallies
from sentinel_gateway.telemetry.models import Models


def answered(**more) -> Record:
    usual = {
        "at": 5.0,
        "request_id": "r",
        "sentinel_id": "s",
        "route": "/v1/chat/completions",
        "method": "POST",
        "model": "small",
    }
    return Record(**(usual | {"status": 200, "outcome": "exact", "saved": 7} | more))


def test_a_hit_and_what_it_saved_are_counted():
    tallies = CostTallies(Models())
    tallies.add(answered(prompt_tokens=3, completion_tokens=2))
    [(use, costs)] = tallies.all().items()
    assert use[0] == "small"
    assert (costs.requests, costs.hits, costs.saved, costs.saved_tokens, costs.updated) == (1, 1, 7, 5, 5.0)


@pytest.mark.parametrize("failed", [{"status": 502}, {"outcome": "none"}, {"error": "client_left"}])
def test_what_had_no_good_answer_is_not_as_in_the_ledger(failed):
    tallies = CostTallies(Models())
    tallies.add(answered(**failed))
    assert not tallies.all()

"""A batch's body, its queries' bodies, and how what came of them is counted."""

import json
from typing import Any

import pytest

from sentinel_gateway.api.wire.batch import Batch, Result, Tally, read_batch, result_line
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import Unprocessable


def read(body: Any, most: int = 3) -> Batch:
    return read_batch(json.dumps(body).encode(), max_depth=8, most=most)


def bodies(body: Any) -> list[Any]:
    return [json.loads(query.body) for query in read(body).queries]


def test_a_text_is_a_query_and_members_beside_are_everybody_s():
    assert bodies({"queries": ["a", {"prompt": "b", "id": "x", "model": "n"}], "model": "m", "temperature": 0}) == [
        {"model": "m", "temperature": 0, "prompt": "a"},
        {"model": "n", "temperature": 0, "prompt": "b"},
    ]


def test_null_undoes_what_stands_beside_and_other_members_stay_with_their_query():
    assert bodies({"queries": [{"prompt": "a", "model": None, "new": 1}], "model": "m", "other": 2}) == [
        {"model": None, "prompt": "a", "new": 1}
    ]


@pytest.mark.parametrize("query", [7, None, True, [], ["a"]])
def test_what_is_no_query_is_left_to_its_own_answer(query):
    assert bodies({"queries": [query]}) == [query]


@pytest.mark.parametrize(
    ("said", "stream"), [({}, None), ({"stream": None}, None), ({"stream": True}, True), ({"stream": False}, False)]
)
def test_whether_it_streams(said, stream):
    assert read({"queries": ["a"]} | said).stream is stream


def test_ids_are_the_caller_s():
    queries = read({"queries": [{"prompt": "a", "id": "x" * 128}, {"prompt": "a", "id": None}, "a"]}).queries
    assert [query.id for query in queries] == ["x" * 128, None, None]


def test_all_faults_are_told_together():
    with pytest.raises(Unprocessable) as caught:
        read({"queries": [{"prompt": "a", "id": "x" * 129}], "stream": 1, "max_tokens": 0, "provider": ""})
    places = [".".join(place) for place, _ in caught.value.faults]
    assert places == ["body.queries.0.id", "body.stream", "body.provider", "body.max_tokens"]


def test_a_list_that_is_too_long_names_the_limit():
    with pytest.raises(Unprocessable, match="at most 3 items"):
        read({"queries": ["a"] * 4})


def record(**fields: Any) -> Record:
    return Record(at=0.0, request_id="", sentinel_id="", route="", method="", **fields)


def test_what_came_of_them_is_counted():
    tally = Tally()
    for outcome in ("exact", "exact", "semantic", "miss", "coalesced", "bypass", "none"):
        tally.add(record(outcome=outcome, status=200, cost=1000, saved=500, attempts=1), duplicate=outcome == "exact")
    tally.add(record(outcome="miss", status=502, error="upstream_error", attempts=3, cost=1000, saved=500), duplicate=False)
    summary = tally.summary(1.5)
    assert (summary.queries, summary.answered, summary.failed) == (8, 7, 1)
    assert (summary.exact_hits, summary.semantic_hits, summary.misses, summary.repeated) == (2, 1, 3, 1)
    assert (summary.duplicates, summary.upstream_calls) == (2, 10)
    assert (summary.cost_usd, summary.saved_usd, summary.latency_ms) == (8e-06, 3.5e-06, 1500.0)


def test_what_is_not_known_is_left_out_of_a_line():
    assert result_line(Result(index=0, request_id="r", status=200)) == b'{"index":0,"request_id":"r","status":200}'

"""Sums over all time: the same whether rows are still there or were added up by day."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.ledger.reconcile import Amounts, compare
from sentinel_gateway.ledger.sums import MOST
from sentinel_gateway.ledger.tables import DAY
from sentinel_gateway.ports.ledger import Past, Spent
from tests.ledger.rows import START, handled, spent

ROUTE = "/v1/chat/completions"
END = START + 3 * DAY


def day(number: int, second: int) -> int:
    return START + number * DAY + second * 1_000_000


@pytest.fixture
def rows():
    """Two days: three hits, one of them in other words, a miss of which a part was kept, three failures, and four calls."""
    hits = [handled(1, at=day(0, 1)), handled(2, at=day(1, 1)), replace(handled(3, at=day(1, 2)), outcome="semantic")]
    hits = [replace(row, prompt_tokens=10, completion_tokens=5) for row in hits]
    others = [
        replace(handled(4, at=day(0, 3)), outcome="miss", saved=4),
        replace(handled(5, at=day(0, 4)), outcome="miss", status=502, error="upstream_error"),
        replace(handled(6, at=day(1, 5)), outcome="exact", error="client_left"),
        replace(handled(11, at=day(1, 6)), outcome="miss", model="never answered", status=503, error="overloaded"),
    ]
    usual = spent(7, at=day(0, 6), cost=100)
    calls = [
        usual,
        replace(usual, intent=spent(8, at=day(1, 7)).intent, spent=Spent(12, 2, 3, 5, 1, 60, "", "estimated")),
        replace(usual, intent=spent(9, at=day(1, 8)).intent, ending="orphan", spent=Spent(basis="unknown")),
        replace(usual, intent=replace(spent(10, at=day(1, 9)).intent, model="large")),
    ]
    return [*hits, *others, *calls]


def told(past: Past) -> Past:
    """Without the moments, which are tested by themselves."""
    return Past(past.outcomes, {use: replace(costs, updated=0.0) for use, costs in past.costs.items()})


SMALL = Costs(
    requests=4,
    hits=3,
    prompt_tokens=24,
    completion_tokens=10,
    cost=160,
    estimated=60,
    saved=55,
    saved_tokens=45,
    unpriced=1,
)
EXPECTED = Past(
    {"exact": 2, "semantic": 1, "miss": 1, "failed": 3},
    {("small", ROUTE): SMALL, ("large", ROUTE): Costs(prompt_tokens=12, completion_tokens=5, cost=100)},
)


@pytest.mark.parametrize("until", [START, START + DAY, END], ids=["all rows there", "one day added up", "both"])
def test_sums_are_the_same_whatever_retention_has_taken(database, rows, until):
    database.copy(rows)
    while database.prune(until):
        pass
    past = database.past(END)
    assert told(past) == EXPECTED
    assert past.costs["small", ROUTE].updated == pytest.approx(day(1, 8) / 1e6, abs=0.01)


def test_added_to_a_day_that_is_there_already(database, rows):
    for row in rows:
        database.copy([row])
        while database.prune(END):
            pass
    assert told(database.past(END)) == EXPECTED


def test_what_came_later_is_not_of_the_past(database, rows):
    database.copy([*rows, handled(99, at=END), spent(99, at=END)])
    assert told(database.past(END)) == EXPECTED


def test_a_provider_is_held_to_have_billed_the_slower_of_two_calls_as_well(database):
    won, lost = spent(1, attempt=1, at=START), replace(spent(1, attempt=2, at=START), ending="lost")
    database.copy([won, lost])
    theirs = {(datetime.fromtimestamp(START / 1e6, UTC).date(), lost.intent.target): Amounts(requests=2)}
    for _ in range(2):  # one by one, then added up by day
        with database.reading() as connection:
            assert [drift.ours.requests for drift in compare(theirs, connection, None)] == [2]
        database.prune(END)


def test_nothing_comes_to_nothing(database):
    assert database.past(END) == Past({}, {})


def test_of_very_many_models_the_most_used_are_told_apart(database):
    models = [replace(handled(number), model=f"m{number}") for number in range(MOST + 20)]
    database.copy([*models, *(replace(handled(1000 + number), model="m270") for number in range(3))])
    costs = database.past(END).costs
    assert len(costs) == MOST + 1
    assert costs["m270", ROUTE].requests == 4
    assert sum(one.requests for one in costs.values()) == MOST + 23

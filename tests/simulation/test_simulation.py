"""Two hundred seeds of weather, and the proof that the simulator notices what is wrong."""

from collections import Counter

from msgspec.structs import replace

from sentinel_gateway.core.retrying import RetryRules
from tests.simulation.outcome import faults
from tests.simulation.simulator import simulate

SEEDS = 200


def test_whatever_the_weather_is():
    endings, outcomes, opened, recovered, drained = Counter(), Counter(), 0, 0, 0
    for seed in range(SEEDS):
        outcome = simulate(seed)
        assert faults(outcome) == [], f"seed {seed}"
        endings.update(told.ending for told in outcome.told)
        outcomes.update(attempt.ending for attempt in outcome.events.attempts)
        opened += sum(opens for _, _, opens in outcome.turns)
        recovered += len(begun_anew(outcome))
        drained += sum(name == "answer_drained" for name, _ in outcome.events.notes)
    print(endings, outcomes, f"{opened} circuits opened, {recovered} streams recovered, {drained} drained")
    assert all(count > SEEDS / 4 for count in outcomes.values()), "every kind of failure has happened"
    assert len(outcomes) == 9
    assert opened > SEEDS / 4
    assert recovered > SEEDS / 10
    assert drained > SEEDS / 20
    limits = ("TokensLimited", "RequestsLimited", "ConcurrencyLimited", "BudgetSpent", "BudgetHeld")
    assert min(endings[name] for name in limits) > SEEDS / 20
    assert endings["answer"] > 0.5 * endings.total()


def begun_anew(outcome):
    """The requests that were answered after a first word that nobody heard."""
    begun = {a.sentinel_id for a in outcome.events.attempts if a.first_token_seconds and a.ending in {"broken", "timeout"}}
    return {told.number for told in outcome.told if told.buffered and told.ending == "answer"} & begun


def test_a_seed_is_the_same_again():
    assert [simulate(seed).digest() for seed in range(3)] == [simulate(seed).digest() for seed in range(3)]
    assert simulate(1).digest() != simulate(2).digest()


def test_it_notices_a_gateway_that_asks_too_often():
    assert any("has the attempts" in fault for seed in range(20) for fault in faults(simulate(seed, RetryRules(attempts=9))))


def test_it_notices_a_row_that_is_missing_and_one_that_is_there_twice():
    outcome = simulate(0)
    rows = outcome.books.settled
    row = rows.pop()
    assert any("seen beyond that" in fault for fault in faults(outcome))
    rows += [row, row]
    assert "a call was settled twice" in faults(outcome)
    rows[-2:] = [replace(row, spent=replace(row.spent, cost=row.spent.cost + 1))]
    assert any("the ledger has" in fault for fault in faults(outcome))

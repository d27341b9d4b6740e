"""How many wrong hits there must be, judging by those that chance has drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sentinel_gateway.core.caching import Step
from sentinel_gateway.core.evidence import (
    Count,
    Finding,
    Findings,
    parts_of,
    reached,
    realm,
    realm_id,
    sampled,
    standings,
    wrong_hits,
)


def finding(number, correct, *, scope="s", drawn=0.02, source="judge", at=100.0):
    return Finding(f"id-{number}", at, scope, drawn, source, correct)


def overall(labels, reached=1000, hits=200, scopes=()):
    return standings(Findings(labels, reached, hits, scopes), {}).overall


@pytest.mark.parametrize(
    ("detail", "counts"),
    [
        ("below-threshold", True),
        ("guard-numbers", True),
        ("no-neighbour", True),
        (None, True),
        ("empty-scope", False),
        ("tier-down", False),
        ("uncacheable-long", False),
    ],
)
def test_what_reaches_the_decision(detail, counts):
    assert reached(Step("vector", "miss", detail)) is counts


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_chance_to_be_compared(exploration, audit):
    assert max(exploration, audit) - 1e-12 <= sampled(exploration, audit) <= min(1.0, exploration + audit) + 1e-12


def test_without_evidence_anything_may_be():
    standing = overall([])
    assert (standing.wrong.rate, standing.wrong.high, standing.wrong.observations) == (0.0, 1.0, 0)


def test_those_that_were_drawn_stand_for_all_hits():
    standing = overall([finding(number, number >= 5) for number in range(50)])  # 5 wrong of 50 that were compared
    assert standing.wrong_hits.rate == pytest.approx(0.1)
    assert standing.wrong.rate == pytest.approx(0.1 * 200 / 1000)
    assert standing.wrong.low < standing.wrong.rate < standing.wrong.high
    assert standing.wrong.observations == 50


def test_rarely_drawn_ones_weigh_more():
    """After exploration was raised from 2 to 50 %: 1 of 2 was wrong before, none of 50 since."""
    before = [finding(number, number > 0, drawn=0.02) for number in range(2)]
    since = [finding(number, correct=True, drawn=0.5) for number in range(10, 60)]
    assert overall(before + since).wrong_hits.rate == pytest.approx(50 / (2 * 50 + 50 * 2))


def test_complaints_are_counted_and_are_no_sample():
    complaints = [finding(number, correct=False, drawn=0.0, source="feedback") for number in range(9)]
    drawn = [finding(100, correct=True), finding(100, correct=False, source="feedback")]
    standing = overall(complaints + drawn)
    assert standing.reported == 10
    assert standing.wrong.rate == 0.0
    assert standing.wrong.observations == 1


@given(st.permutations([("judge", True), ("operator", False), ("feedback", True)]))
def test_the_operator_overrules_the_judge(said):
    standing = overall([finding(1, correct, source=source) for source, correct in said])
    assert standing.wrong_hits.rate == 1.0
    assert standing.wrong.observations == 1


def test_what_the_operator_has_picked_is_no_sample():
    assert overall([finding(1, correct=False, drawn=0.0, source="operator")]).wrong.observations == 0


def test_scopes_stand_apart():
    labels = [finding(number, correct=False, scope="bad") for number in range(3)]
    labels += [finding(number, correct=True, scope="good") for number in range(10, 13)]
    found = Findings(labels, 100, 20, [Count(0, "bad", 50, 10), Count(0, "good", 50, 10), Count(0, "new", 0, 0)])
    told = standings(found, {})
    assert [(scope.scope, scope.wrong_hits.rate, scope.wrong.rate) for scope in told.scopes] == [
        ("bad", 1.0, pytest.approx(0.2)),
        ("good", 0.0, 0.0),
        ("new", 0.0, 0.0),
    ]
    assert told.overall.wrong_hits.rate == pytest.approx(0.5)


def test_what_was_decided_under_another_stance_does_not_count():
    labels = [finding(f"{scope}{at}", correct=False, scope=scope, at=at) for scope in "ab" for at in range(10)]
    found = Findings(labels, 100, 20, [Count(0, "a", 50, 10), Count(0, "b", 50, 10)])
    told = standings(found, {"a": 8.0})
    assert [scope.wrong.observations for scope in told.scopes] == [2, 10]
    assert told.overall.wrong.observations == 12
    told = standings(found, {"a": 8.0, "all": 5.0})
    assert [scope.wrong.observations for scope in told.scopes] == [2, 5]
    assert told.overall.wrong.observations == 7


def test_a_budget_of_somebodys_own_counts_what_was_asked_under_it():
    held = [replace(finding(number, number > 3, scope=f"s{number}"), budgets=("key:k",)) for number in range(10)]
    others = [finding(number, correct=True) for number in range(20, 30)]
    found = Findings(held + others, 100, 20, [], [Count(0, "key:k", 40, 10)])
    (told,) = standings(found, {}).budgets
    assert (told.scope, told.wrong_hits.rate, told.wrong.rate) == ("key:k", 0.4, pytest.approx(0.1))
    assert standings(found, {}).overall.wrong.observations == 20
    after = standings(found, {"key:k": 101.0})
    assert (after.budgets[0].wrong.observations, after.overall.wrong.observations) == (0, 10)


def test_the_interval_covers_the_true_rate():
    """In at least 95 % of 1,000 weeks of traffic: 20,000 requests, a quarter of them hits, 3 % of those wrong, 2 % explored."""
    covered = 0
    for seed in range(1000):
        chance = np.random.default_rng(seed)
        hits = int(chance.binomial(20_000, 0.25))
        drawn = int(chance.binomial(hits, 0.02))
        wrong = int(chance.binomial(drawn, 0.03))
        standing = overall([finding(number, number >= wrong) for number in range(drawn)], 20_000, hits)
        covered += standing.wrong_hits.low <= 0.03 <= standing.wrong_hits.high
    assert covered >= 950, covered


def test_of_the_hits_under_a_budget_all_count_however_strict_it_has_become():
    held = [replace(finding(number, number > 3), budgets=("key:k",)) for number in range(10)]
    said = [replace(finding(number, correct=False, source="feedback"), budgets=("key:k",)) for number in (8, 9)]
    told, reported = wrong_hits([*held, *said, *(finding(number, correct=False) for number in range(20, 30))], "key:k")
    assert (told.rate, told.observations, reported) == (0.4, 10, 2)


def test_a_realm_is_told_by_digits_where_names_don_t_belong():
    here = realm("acme", "docs")
    assert parts_of(here) == ("acme", "docs")
    assert len(realm_id(here)) == 16
    assert int(realm_id(here), 16)
    assert realm_id(here) != realm_id(realm("acme", "")) != realm_id(realm("", "acme"))

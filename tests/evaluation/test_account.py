"""The sums of a replayed log, and the settings that they speak for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.chat import Answer, Usage
from sentinel_gateway.core.confidence.interval import wrong_hit_interval
from sentinel_gateway.core.pricing import FREE, Price, Pricing, Rates, Unpriced
from sentinel_gateway.evaluation.account import Account, Ledger, likely_seconds, suspicious, thresholds
from sentinel_gateway.evaluation.advice import ENOUGH, LIFETIMES, REPEATS, advise
from sentinel_gateway.evaluation.rehearsal import Match, Step
from sentinel_gateway.evaluation.traffic import Logged
from sentinel_gateway.settings.cache import Cache, Semantic
from sentinel_gateway.settings.model import Settings

USAGE = Usage(100, 50, 150)


DOLLAR = 10**24
"""In yocto-USD."""


def price(target: str) -> Pricing:
    """A dollar a token in and two out; at `free` nothing; of `unknown` nobody knows."""
    known = Price(Rates.of({"input": DOLLAR, "output": 2 * DOLLAR}))
    return {"unknown": Unpriced(target), "free": FREE}.get(target.partition("/")[0], known)


def step(outcome="miss", *, target="p/m", answered=True, failed=False, seconds=2.0, at=None, usage=USAGE, **more) -> Step:
    answer = Answer({}, ("stop",), USAGE) if answered and not failed else None
    logged = Logged(1, {}, at, answer, failed, seconds)
    return Step(logged=logged, target=target, usage=Usage() if failed else usage, outcome=outcome, **more)


def account_of(*steps: Step) -> Account:
    ledger = Ledger(price)
    for each in steps:
        ledger.add(each)
    return ledger.close()


def match(similarity, *, served=True, agree=None, line=1) -> Match:
    return Match(line, "a", 1, "b", similarity, served=served, agree=agree)


def test_hits_save_what_the_request_has_cost():
    found = account_of(
        step(reason="empty-scope", at=10.0),
        step("exact", at=30.0),
        step("exact", target="free/m"),
        step("semantic", decided=True, seconds=3.0, at=20.0),
        step(reason="below-threshold", decided=True, failed=True, stale=True, bound="personal"),
    )
    assert (found.requests, found.failed, found.compared, found.stale, found.bound) == (5, 1, 2, 1, {"personal": 1})
    assert (found.first, found.last, found.estimated.timestamps) == (10.0, 30.0, 2)
    assert (found.exact.hits, found.exact.hit_rate, found.exact.usd, found.exact.tokens) == (2, 0.4, 200.0, 300)
    assert (found.semantic.usd, found.semantic.seconds, found.exact.seconds) == (200.0, 3.0, 4.0)
    assert (found.spent_usd, found.spent_seconds) == (600.0, 11.0)
    assert found.misses == {"empty-scope": 1, "below-threshold": 1}


def test_what_the_log_did_not_tell_is_counted():
    ledger = Ledger(price)
    for each in (step(target="unknown/m"), step(answered=False, seconds=None), step(failed=True, seconds=None)):
        ledger.add(each)
    guessed = ledger.close().estimated
    assert (guessed.prices, guessed.answers, guessed.usage, guessed.seconds, guessed.timestamps) == (1, 1, 1, 2, 3)
    assert ledger.account.spent_usd == 200.0000985, "an unknown price is that of a model that is known"
    assert ledger.account.spent_seconds == 2.0 + likely_seconds(USAGE)
    assert (likely_seconds(USAGE), likely_seconds(Usage())) == (1.5, 0.0)
    assert account_of(step()).misses == {"no-semantic-tier": 1}


@settings(max_examples=25)
@given(st.lists(st.builds(match, st.integers(70, 99).map(lambda n: n / 100), agree=st.sampled_from([True, False, None]))))
def test_each_threshold_serves_what_is_as_similar(matches):
    for point in thresholds(matches, compared=200, least=0.7):
        served = [each for each in matches if each.similarity >= point.threshold]
        judged = [each.agree for each in served if each.agree is not None]
        assert (point.hits, point.judged, point.wrong) == (len(served), len(judged), judged.count(False))
        assert point.hit_rate == len(served) / 200
        weight = len(served) / max(len(judged), 1)
        expected = wrong_hit_interval([(agree, weight) for agree in judged], 200)
        assert (point.wrong_hit_rate, point.wrong_hit_rate_high) == (expected.rate, expected.high)


def test_thresholds_are_told_in_hundredths_from_the_least_that_may_be_set():
    assert [point.threshold for point in thresholds([], compared=0, least=0.95)] == [0.95, 0.96, 0.97, 0.98, 0.99]


def test_a_human_sees_what_differs_then_what_is_hardly_near_enough_then_what_is_nearly():
    served = [match(0.99, agree=False), match(0.96), match(0.97, agree=True)]
    nearly = [match(0.94, served=False), match(0.91, served=False), match(0.80, served=False)]
    shown = suspicious([*nearly, *served], threshold=0.95)
    assert [each.similarity for each in shown] == [0.99, 0.96, 0.97, 0.94, 0.91]
    many = [match(0.96, line=number) for number in range(100)]
    assert len(suspicious(many, threshold=0.95)) == 30
    assert sum(each.served for each in suspicious([*many, *(20 * nearly[:1])], threshold=0.95)) == 20


def advice(matches=(), gaps=(), *, compared=1_000, using=None, **account):
    known = Account(requests=1_000, compared=compared, **account)
    curve = list(thresholds(list(matches), compared=compared, least=0.7))
    return {each.setting: each for each in advise(known, curve, list(gaps), using or Settings())}


def test_the_threshold_is_the_lowest_that_the_answers_speak_for():
    agreeing = [match(0.7 + 0.29 * number / 400, agree=True) for number in range(400)]
    found = advice(agreeing)["cache.semantic.threshold"]
    assert (found.now, found.value) == ("0.95", "0.7")
    assert "40.0% of 1,000 questions" in found.reason
    differing = [match(0.75, agree=False) for _ in range(20)]
    found = advice([*agreeing, *differing])["cache.semantic.threshold"]
    assert found.value == "0.76", "below it more than one in a hundred might be wrong"
    strict = Settings(cache=Cache(max_wrong_hit_rate=0.0001, semantic=Semantic(threshold=0.9)))
    found = advice(agreeing, using=strict)["cache.semantic.threshold"]
    assert (found.value, "at no threshold" in found.reason) == ("0.97", True)


def test_few_answers_speak_for_no_threshold():
    found = advice([match(0.96, agree=True)] * (ENOUGH - 1) + [match(0.96)] * 100)["cache.semantic.threshold"]
    assert (found.value, f"{ENOUGH - 1} of the matches" in found.reason) == ("0.95", True)
    assert advice([match(0.96, agree=True)] * ENOUGH)["cache.semantic.threshold"].value == "0.7"


@pytest.mark.parametrize(("count", "reason"), [(0, "no question"), (10, "it costs few hits"), (200, "'usual' lets them")])
def test_bound_questions_are_weighed_by_their_number(count, reason):
    found = advice(bound={"time-bound": count} if count else {})
    assert reason in found["cache.bound.time"].reason
    assert found["cache.bound.time"].value == "brief"
    assert "no question" in found["cache.bound.personal"].reason


def test_the_lifetime_is_one_that_most_repeats_fall_into():
    soon = [(60.0, True)] * 100
    found = advice(gaps=soon)["cache.ttl"]
    assert (found.value, "100 of 100" in found.reason) == (found.now, True)
    late = [*soon, *[(20_000.0, False)] * 20]
    found = advice(gaps=late, using=Settings(cache=Cache(ttl=600)))["cache.ttl"]
    assert (found.now, found.value) == ("600", "21600")
    assert "20 of 120" in found.reason
    found = advice(gaps=[(1e9, False)] * REPEATS)["cache.ttl"]
    assert found.value == str(LIFETIMES[-1])
    found = advice(gaps=late[: REPEATS - 1])["cache.ttl"]
    assert (found.value, "no timestamps" in found.reason) == (found.now, True)
    assert "no timestamps" not in advice(gaps=late[: REPEATS - 1], first=1.0)["cache.ttl"].reason

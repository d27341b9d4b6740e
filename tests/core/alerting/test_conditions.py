"""When a rule holds: by figures at one moment, with every kind and every metric."""

import math
from typing import get_args

import pytest

from sentinel_gateway.core.alerting.conditions import elapsed, find, month_start, needs
from sentinel_gateway.core.alerting.figures import BIN, Figures, Needs, Served
from sentinel_gateway.core.alerting.rules import (
    BURNT,
    CALL_METRICS,
    DAY,
    FORECAST,
    HOUR,
    SERVED_METRICS,
    STATE_METRICS,
    UNITS,
    Metric,
    Rule,
    default_rules,
)
from sentinel_gateway.core.alerting.words import clean
from sentinel_gateway.core.analytics import FIGURES
from sentinel_gateway.core.anomalies import Anomaly
from sentinel_gateway.core.budgets import BudgetUse, window
from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.windows import Window, bucket_of

NOW = 1_790_000_100.0
"""Not at the beginning of a stretch."""
assert NOW % BIN == 0
NOW += 60


def calls(*, ago: float = 0.0, provider: str = "mock", model: str = "m", good: int = 0, bad: int = 0, **more) -> Window:
    """A stretch of 5 minutes that began so many seconds ago, to a stretch."""
    start = int((NOW - ago) // BIN * BIN)
    buckets = {bucket_of(more.pop("millis", 100) * 1000): good} if good else {}
    endings = {"answered": good, "broken": bad}
    return Window(start, provider, model, good + bad, endings=endings, buckets=buckets, **more)


def served(*, ago: float = 0.0, requests: int = 100, failed: int = 0, decided: int = 100, hits: int = 0) -> Served:
    return Served(int((NOW - ago) // BIN * BIN), requests, failed, decided, hits)


def told(rule: Rule, **figures) -> list[tuple[str, float]] | None:
    found = find(rule, Figures(now=NOW, **figures))
    return None if found is None else [(one.subject, round(one.value, 6)) for one in found]


def test_every_metric_is_of_one_kind_and_has_a_unit():
    names = {name for group in get_args(Metric) for name in get_args(group)} or set(get_args(Metric))
    assert names == CALL_METRICS | SERVED_METRICS | STATE_METRICS == UNITS.keys()
    assert set(FIGURES) >= CALL_METRICS
    assert names >= BURNT | FORECAST


def test_a_share_of_failures_above_its_limit():
    rule = Rule(name="r", metric="error_rate", limit=0.2)
    assert told(rule, calls=[calls(good=75, bad=25)]) == [("", 0.25)]
    assert told(rule, calls=[calls(good=80, bad=20)]) == []
    assert told(rule, calls=[calls(good=2, bad=8)]) == [], "ten calls say little"
    assert told(rule, calls=[]) == []
    assert told(rule, calls=None) is None


def test_the_sentence_says_what_it_is_and_what_it_may_be():
    [found] = find(
        Rule(name="r", metric="error_rate", limit=0.2, by="provider"), Figures(now=NOW, calls=[calls(good=75, bad=25)])
    )
    assert found.text == "The share of failed calls of mock is 25.00%, above 20.00%, over the last 5 minutes"


def test_each_by_itself_or_one_alone():
    windows = [calls(good=50, bad=50), calls(good=99, bad=1, provider="other"), calls(good=10, bad=90, model="n")]
    assert told(Rule(name="r", metric="error_rate", limit=0.2, by="provider"), calls=windows) == [("mock", 0.7)]
    assert told(Rule(name="r", metric="error_rate", limit=0.6, by="model"), calls=windows) == [("mock/n", 0.9)]
    assert told(Rule(name="r", metric="error_rate", limit=0.2, provider="other"), calls=windows) == []
    assert told(Rule(name="r", metric="error_rate", limit=0.2, model="m"), calls=windows) == [("m", 0.255)]


def test_only_the_window_counts():
    rule = Rule(name="r", metric="error_rate", limit=0.2, window=600)
    assert told(rule, calls=[calls(ago=300, good=50, bad=50)]) == [("", 0.5)]
    assert told(rule, calls=[calls(ago=1200, good=50, bad=50)]) == []


@pytest.mark.parametrize("metric", ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"])
def test_a_percentile_of_the_latency(metric):
    rule = Rule(name="r", metric=metric, limit=1000, by="model")
    [(subject, value)] = told(rule, calls=[calls(good=100, millis=1500)])
    assert subject == "mock/m"
    assert 1350 < value < 1720, "to the bucket"
    assert told(rule, calls=[calls(good=100, millis=500)]) == []


def test_money_is_told_of_few_calls_as_well_and_brought_to_the_window():
    rule = Rule(name="r", metric="total_cost", limit=5.0, window=600)
    windows = [calls(ago=600, good=1, cost=4 * NANO_PER_USD), calls(good=1, cost=4 * NANO_PER_USD)]
    [(_, value)] = told(rule, calls=windows)
    assert value == pytest.approx(8 * 600 / 660), "660 seconds are looked at: stretches of 5 minutes, and a minute of the last"


def test_requests_that_fail_and_hits():
    assert told(Rule(name="r", metric="request_error_rate", limit=0.05), served=[served(failed=6)]) == [("", 0.06)]
    assert told(Rule(name="r", metric="request_error_rate", limit=0.05), served=[served(failed=5)]) == []
    low = Rule(name="r", metric="hit_rate", limit=0.2, below=True)
    assert told(low, served=[served(hits=10)]) == [("", 0.1)]
    assert told(low, served=[served(hits=30)]) == []
    assert told(low, served=[served(requests=100, decided=0)]) == [], "nothing was decided, so there is no rate"
    assert told(low, served=None) is None


def test_a_change_against_the_window_before_or_yesterday():
    drop = Rule(name="r", kind="change", metric="hit_rate", limit=0.5, below=True, window=HOUR, against=DAY)
    [(_, ratio)] = told(drop, served=[served(hits=10), served(ago=DAY, hits=50)])
    assert ratio == pytest.approx(0.2)
    assert told(drop, served=[served(hits=30), served(ago=DAY, hits=50)]) == []
    assert told(drop, served=[served(hits=10)]) == [], "where nothing was before, nothing has changed"
    jump = Rule(name="r", kind="change", metric="total_cost", limit=3, window=300, floor=1.0)
    dear, cheap = calls(good=1, cost=40 * NANO_PER_USD), calls(ago=600, good=1, cost=NANO_PER_USD)
    assert [subject for subject, _ in told(jump, calls=[dear, cheap])] == [""]
    cents = [calls(good=1, cost=NANO_PER_USD // 10), calls(ago=600, good=1, cost=NANO_PER_USD // 1000)]
    assert told(jump, calls=cents) == [], "cents are below the floor"
    assert told(jump, calls=None) is None


def test_a_change_from_nothing_to_something():
    worse = Rule(name="r", kind="change", metric="request_error_rate", limit=3, window=300, floor=0.02)
    [found] = find(worse, Figures(now=NOW, served=[served(failed=50), served(ago=600)]))
    assert found.value > worse.limit
    assert math.isfinite(found.value), "JSON has no infinity"
    said = "The share of requests answered with 5xx is 50.00%; it was 0.00% 5 minutes before, over the last 5 minutes"
    assert found.text == said
    assert told(worse, served=[served(failed=1), served(ago=600)]) == [], "below the floor"
    assert told(worse, served=[served(), served(ago=600)]) == [], "nothing still"
    assert told(worse, served=[served(failed=50), served(ago=600, requests=5)]) == [], "too few to know that it was nothing"
    less = Rule(name="r", kind="change", metric="request_error_rate", limit=0.5, below=True, window=300)
    assert told(less, served=[served(failed=50), served(ago=600)]) == []


def test_money_from_nothing_needs_a_floor():
    paid, free = calls(good=1, cost=40 * NANO_PER_USD), calls(ago=600, good=1)
    for floor, subjects in ((1.0, [""]), (0.0, [])):
        rule = Rule(name="r", kind="change", metric="total_cost", limit=3, window=300, floor=floor)
        assert [subject for subject, _ in told(rule, calls=[paid, free])] == subjects
        assert told(rule, calls=[paid]) == [], "of a time without calls nothing is known"


def test_a_burn_rate_needs_both_of_its_windows():
    rule = Rule(name="r", kind="burn_rate", metric="request_error_rate", limit=0.01)
    long = [served(ago=ago, failed=20) for ago in range(0, HOUR, BIN)]
    [(_, burn)] = told(rule, served=long)
    assert burn == pytest.approx(20.0)
    over = [served(ago=ago, failed=0 if ago < 8 * BIN else 40) for ago in range(0, 7 * HOUR, BIN)]
    assert told(rule, served=over) == [], "it is over, though the long windows don't know that yet"
    slow = [served(ago=ago, failed=7) for ago in range(0, 7 * HOUR, BIN)]
    assert told(rule, served=slow) == [("", 7.0)], "7 times is too slow for the hour, and enough for six"
    assert told(rule, served=None) is None
    of_calls = Rule(name="r", kind="burn_rate", metric="error_rate", limit=0.01, by="provider")
    assert told(of_calls, calls=[calls(ago=ago, good=5, bad=5) for ago in range(0, HOUR, BIN)]) == [("mock", 50.0)]


def test_what_is_as_it_is_now():
    health = Rule(name="r", metric="provider_health", limit=50, below=True)
    assert told(health, health={"a": 49.0, "b": 50.0}) == [("a", 49.0)]
    assert told(health, health=None) is None
    assert told(Rule(name="r", metric="provider_health", limit=50, below=True, provider="b"), health={"a": 1.0}) == []
    opened = Rule(name="r", metric="circuit_open", limit=1.0)
    assert told(opened, open_circuits=["a/m"]) == [("a/m", 1.0)]
    assert told(opened, open_circuits=None) is None
    assert told(Rule(name="r", metric="circuit_open", provider="b"), open_circuits=["a/m"]) == []
    found = find(opened, Figures(now=NOW, open_circuits=["a/m"], half_open=["b/m"]))
    assert {one.subject: one.begins for one in found} == {"a/m": True, "b/m": False}


def test_wrong_answers_by_the_lower_bound():
    rule = Rule(name="r", metric="wrong_hit_rate", limit=0.01)
    assert told(rule, wrong=Estimate(0.05, 0.02, 0.09, 40)) == [("", 0.02)]
    assert told(rule, wrong=Estimate(0.05, 0.009, 0.09, 40)) == [], "it may be chance"
    assert told(rule, wrong=Estimate(0.0, 0.0, 1.0, 0)) == []
    assert told(rule, wrong=None) is None


def use(settled: float, *, span: str = "day", limit: float = 10.0) -> BudgetUse:
    ends = window(span, NOW)[1]
    return BudgetUse("tenant", "acme", "", "acme", span, int(limit * NANO_PER_USD), int(settled * NANO_PER_USD), 0, ends)


def test_a_budget_that_is_nearly_spent():
    rule = Rule(name="r", metric="budget_used", limit=0.9)
    assert told(rule, budgets=[use(9.5)]) == [("tenant acme day", 0.95)]
    assert told(rule, budgets=[use(9.0)]) == []
    assert told(rule, budgets=None) is None


def test_a_budget_that_will_be_spent_before_its_end():
    rule = Rule(name="r", kind="forecast", metric="budget_used", limit=1.0)
    gone = elapsed("day", NOW)
    assert 0.3 < gone < 0.9, "the test needs a moment in the middle of a day"
    assert [subject for subject, _ in told(rule, budgets=[use(10 * gone + 0.1)])] == ["tenant acme day"]
    assert told(rule, budgets=[use(10 * gone - 0.1)]) == []
    assert told(rule, budgets=None) is None


def test_nothing_is_forecast_of_a_window_that_has_just_begun():
    rule = Rule(name="r", kind="forecast", metric="budget_used", limit=1.0)
    midnight = NOW // DAY * DAY
    assert find(rule, Figures(now=midnight + HOUR, budgets=[use(9.0)])) == []
    assert find(rule, Figures(now=midnight + 3 * HOUR, budgets=[use(9.0)])) != []


def test_what_the_month_will_have_cost():
    rule = Rule(name="r", kind="forecast", metric="total_cost", limit=100.0)
    gone = elapsed("month", NOW)
    assert gone > 0.5
    assert told(rule, month=int(90 * NANO_PER_USD)) == [("", pytest.approx(90 / gone))]
    assert told(rule, month=int(50 * NANO_PER_USD)) == []
    assert told(rule, month=None) is None


@pytest.mark.parametrize(("moment", "start"), [(1_767_225_600.0, 1_767_225_600), (1_772_323_199.0, 1_769_904_000)])
def test_when_a_month_began(moment, start):
    assert month_start(moment) == start
    assert 0 < elapsed("month", moment) < 1


def anomaly(**changes) -> Anomaly:
    fields = {
        "kind": "error_burst",
        "severity": "critical",
        "provider": "mock",
        "model": "m",
        "metric": "error_rate",
        "value": 0.6,
        "expected": 0.01,
        "ratio": 60.0,
        "score": 9.0,
        "since": 1,
        "until": None,
        "calls": 100,
        "explanation": "mock/m: 60% of the calls fail",
    }
    return Anomaly(**fields | changes)


def test_anomalies_that_last_and_are_grave_enough():
    rule = Rule(name="r", kind="anomaly")
    found = [anomaly(), anomaly(until=5, model="over"), anomaly(severity="warning", model="mild")]
    assert told(rule, anomalies=found) == [("error_burst mock/m", 0.6)]
    assert len(told(Rule(name="r", kind="anomaly", anomalies="warning"), anomalies=found)) == 2
    assert told(Rule(name="r", kind="anomaly", provider="other"), anomalies=found) == []
    assert told(rule, anomalies=None) is None


def test_what_rules_ask_for():
    asked = needs(default_rules(most_wrong=0.01))
    assert asked.served == DAY + HOUR
    assert asked.calls == DAY + HOUR
    assert asked.anomalies
    assert not asked.month
    assert needs([]) == Needs()
    assert needs([Rule(name="r", kind="forecast", metric="total_cost")]).month


def test_names_that_callers_chose_mention_nobody_and_mark_nothing_up():
    assert clean("<!channel> @everyone `x` *y*\n") == "__channel_ _everyone _x_ _y__"
    assert len(clean("m" * 5000)) <= 120


def test_the_default_rules_are_each_another_and_of_metrics_that_there_are():
    rules = default_rules(most_wrong=0.02)
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.metric in UNITS for rule in rules if rule.kind != "anomaly")
    assert next(rule for rule in rules if rule.name == "wrong-answers").limit == 0.02

"""What is out of the ordinary is found, and told as what, how far, since when; a calm day has nothing of it."""

from collections import Counter
from itertools import product

import pytest

from sentinel_gateway.core.anomalies import Anomaly, find_anomalies, wilson_low
from sentinel_gateway.core.windows import OTHER, Window, bucket_of
from tests.core import days
from tests.core.days import BIN, DAY, START, Planted

NOW = START + DAY
HELD_OUT = range(1000, 1200)
"""The rules were made on other seeds."""


def calls(bin_: int, good: int = 40, bad: int = 0, *, ms: int = 800, usd: float = 0.002, **more) -> Window:
    """Five minutes of a model's; `bin_` counts from the start of the day."""
    endings = {name: count for name, count in (("answered", good), ("timeout", bad)) if count}
    buckets = {bucket_of(1000 * ms): good} if good else {}
    took = {"cost": int(good * usd * 1e9), "latency": good * ms * 1000}
    names = {"provider": "mock", "model": "small"} | more
    return Window(START + bin_ * BIN, **names, requests=good + bad, **took, endings=endings, buckets=buckets)


def found(windows) -> list[Anomaly]:
    return find_anomalies(sorted(windows, key=lambda window: window.start), NOW)


def changed(first: int, last: int, **to) -> list[Window]:
    """A day of which these points, the last included, are different."""
    return [calls(bin_, **to) if first <= bin_ <= last else calls(bin_) for bin_ in range(288)]


def test_slower():
    (one,) = found(changed(100, 111, ms=2400))
    assert (one.kind, one.severity, one.provider, one.model, one.metric) == (
        *("latency_shift", "warning", "mock", "small", "median_latency_ms"),
    )
    assert (one.since, one.until, one.calls) == (START + 100 * BIN, START + 112 * BIN, 480)
    assert one.value == pytest.approx(2400, rel=0.1)
    assert one.expected == pytest.approx(800, rel=0.1)
    assert one.ratio == pytest.approx(one.value / one.expected)
    assert one.score > 5
    assert one.explanation == (
        f"mock/small: answers take {one.value:,.0f} ms (median), {one.ratio:.1f} times the usual {one.expected:,.0f} ms, "
        "for 60 minutes and 480 calls."
    )


def test_much_slower_is_critical():
    assert [one.severity for one in found(changed(100, 111, ms=4000))] == ["critical"]


def test_what_lasts_has_no_end_and_goes_on_for_as_long_as_it_is_so():
    (one,) = found(changed(60, 287, ms=2400))
    assert (one.since, one.until) == (START + 60 * BIN, None)


def test_faster_and_cheaper_is_nothing_to_tell():
    assert found(changed(100, 140, ms=100, usd=0.0001)) == []


def test_dearer():
    (one,) = found(changed(100, 105, usd=0.009))
    assert (one.kind, one.severity, one.metric) == ("cost_jump", "critical", "cost_per_request_usd")
    assert (one.value, one.expected, one.ratio) == pytest.approx((0.009, 0.002, 4.5))
    assert "a call costs 0.009 USD, 4.5 times the usual 0.002 USD" in one.explanation


def test_what_a_call_costs_is_told_in_plain_decimals():
    (one,) = found([calls(bin_, usd=0.00009 if 100 <= bin_ <= 105 else 0.00002) for bin_ in range(288)])
    assert "a call costs 0.00009 USD, 4.5 times the usual 0.00002 USD" in one.explanation


def test_wrong_more_often():
    (one,) = found(changed(100, 102, good=28, bad=12))
    assert (one.kind, one.severity, one.metric, one.since) == ("error_burst", "warning", "error_rate", START + 100 * BIN)
    assert one.value == pytest.approx(0.3)
    assert one.expected < 0.01
    assert "30% of the calls fail" in one.explanation
    assert "timeout" in one.explanation


def test_a_small_fault_is_seen_by_the_hour():
    assert [one.kind for one in found(changed(96, 131, good=36, bad=4))] == ["error_burst"]
    assert found(changed(96, 96, good=36, bad=4)) == []


def test_all_other_models_in_one_are_no_series():
    """What is told of them would be of nobody's."""
    assert [one.model for one in found(changed(96, 131, good=36, bad=4))] == ["small"]
    other = [calls(bin_, good=36, bad=4, model=OTHER) if 96 <= bin_ <= 131 else calls(bin_, model=OTHER) for bin_ in range(288)]
    assert found(other) == []


def test_a_clump_of_failures_is_no_burst():
    assert found(changed(100, 100, good=52, bad=8)) == []


def test_a_model_that_always_failed_so_often_is_no_burst():
    assert found([calls(bin_, good=38, bad=2) for bin_ in range(288)]) == []


def test_a_caller_that_sends_wrong_requests_is_no_fault_of_the_provider():
    windows = changed(100, 120)
    for window in windows[100:121]:
        window.requests += 100
        window.endings["refused"] = 100
    assert found(windows) == []


def test_dead_because_nothing_is_answered():
    (one,) = found(changed(100, 105, good=0, bad=20))
    assert (one.kind, one.severity, one.model, one.metric, one.value) == ("dead_provider", "critical", "", "error_rate", 1.0)
    assert (one.since, one.until) == (START + 100 * BIN, START + 106 * BIN)
    assert "120 calls failed (timeout) and none was answered" in one.explanation


def test_windows_in_which_nothing_was_decided_neither_begin_a_death_nor_lengthen_it():
    """All was refused then, for the callers' own part, before, within and after the failures."""
    windows = changed(98, 108, good=0, bad=20)
    for bin_ in (98, 99, 103, 107, 108):
        windows[bin_].endings = {"refused": 20}
    (one,) = found(windows)
    assert (one.kind, one.since, one.until, one.value) == ("dead_provider", START + 100 * BIN, START + 107 * BIN, 1.0)


def test_dead_because_its_circuit_is_open_and_all_go_elsewhere():
    own = [calls(bin_, good=0, bad=20) if bin_ < 102 else calls(bin_) for bin_ in range(288) if not 102 <= bin_ < 110]
    own = [calls(bin_) if bin_ < 100 else window for bin_, window in zip(range(288), own, strict=False)]
    others = [calls(bin_, provider="other") for bin_ in range(288)]
    (one,) = found([*own, *others])
    assert (one.kind, one.provider, one.since, one.until) == ("dead_provider", "mock", START + 100 * BIN, START + 110 * BIN)


def test_dead_because_nobody_asks_it_any_more():
    others = [calls(bin_, provider="other") for bin_ in range(288)]
    (one,) = found([*[calls(bin_) for bin_ in range(200)], *others])
    assert (one.kind, one.provider, one.metric, one.value, one.until) == ("dead_provider", "mock", "requests", 0.0, None)
    assert one.since == START + 200 * BIN
    assert one.expected == pytest.approx(88 * 20)


def test_where_nobody_asks_anything_nobody_is_dead():
    assert found([calls(bin_, provider=name) for bin_ in range(200) for name in ("mock", "other")]) == []


def test_a_provider_that_is_asked_now_and_then_may_be_silent():
    others = [calls(bin_, provider="other") for bin_ in range(288)]
    assert found([*[calls(bin_) for bin_ in range(0, 150, 6)], *others]) == []


def test_one_slow_point_or_few_calls_are_nothing():
    assert found(changed(100, 100, ms=4000)) == []
    assert found(changed(100, 110, good=3, ms=9000)) == []


def test_what_is_not_over_yet_is_not_looked_at():
    windows = changed(286, 287, ms=4000)
    assert [one.kind for one in found(windows)] == ["latency_shift"]
    assert find_anomalies(windows, NOW - 1) == []


def test_nothing_comes_to_nothing():
    assert find_anomalies([], NOW) == []


@pytest.mark.parametrize(("hits", "calls", "low"), [(0, 0, 0.0), (0, 10, 0.0), (10, 100, 0.0552), (50, 100, 0.4038)])
def test_wilsons_lower_bound(hits, calls, low):
    """As published tables have it, for 95 %."""
    assert wilson_low(hits, calls, 1.959964) == pytest.approx(low, abs=1e-4)


# --- synthetic days ---


def is_of(one: Anomaly, fault: Planted) -> bool:
    """Was this told because of that?"""
    first, last = (START - DAY + bin_ * BIN for bin_ in (fault.first, fault.last + 2))
    place = one.kind == fault.kind and one.provider == fault.provider and fault.model in {"", one.model}
    return place and one.since < last and (one.until or NOW) > first


def judged(seeds, hourly=days.BUSY) -> Counter[str]:
    """What was planted in these days, found and missed, and what was told of that was not there."""
    counts: Counter[str] = Counter()
    for seed, calm in product(seeds, (False, True)):
        windows, faults = days.day(seed, calm=calm, hourly=hourly)
        told = [one for one in find_anomalies(windows, NOW) if (one.until or NOW) > START]
        seen = [fault for fault in faults if any(is_of(one, fault) for one in told)]
        counts["planted"] += len(faults)
        counts["found"] += len(seen)
        counts.update(f"planted {fault.kind}" for fault in faults)
        counts.update(f"found {fault.kind}" for fault in seen)
        counts["right"] += sum(any(is_of(one, fault) for fault in faults) for one in told)
        counts["invented"] += sum(not any(is_of(one, fault) for fault in faults) for one in told)
        counts["invented on calm days"] += len(told) if calm else 0
    return counts


def test_planted_faults_are_found_and_none_is_invented():
    counts = judged(range(1, 4))
    assert counts["planted"] > 8
    assert counts["found"] == counts["planted"]
    assert counts["invented"] == 0


@pytest.mark.long
@pytest.mark.parametrize(("hourly", "least"), [(days.BUSY, 0.95), (days.RARE, 0.8)], ids=["busy", "rare"])
def test_precision_and_recall_over_two_hundred_days(capsys, hourly, least):
    counts = judged(HELD_OUT, hourly)
    recall, precision = counts["found"] / counts["planted"], counts["right"] / (counts["right"] + counts["invented"])
    with capsys.disabled():
        print(f"\n{len(HELD_OUT)} days with faults and as many without: recall {recall:.3f}, precision {precision:.3f}")
        print(*(f"{name}: {count}" for name, count in sorted(counts.items())), sep="\n")
    assert recall >= least
    assert precision >= 0.97
    assert counts["invented on calm days"] <= len(HELD_OUT) // 20

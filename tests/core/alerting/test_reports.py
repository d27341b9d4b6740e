"""What a report says."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.core.alerting.reports import ROWS, Past, Wanted, report
from sentinel_gateway.core.analytics import FIGURES
from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.stretches import Stretch
from sentinel_gateway.core.windows import Window
from sentinel_gateway.settings.reports import Metric

DAILY = Wanted(name="morning", period="day")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(model: str, cost: int, *, calls: int = 4, failed: int = 1) -> Window:
    return Window(
        0, "mock", model, requests=calls, cost=cost, endings={"answered": calls - failed, "timeout": failed}, buckets={80: 3}
    )


def past(**changes) -> Past:
    usual = Past(
        since=at("2026-11-21T08:00"),
        until=at("2026-11-22T08:00"),
        requests=Stretch(0, exact=60, semantic=20, miss=20, other=5, saved=12_340_000_000, spent=1_500_000_000),
        before=Stretch(0, exact=1, miss=3, spent=250_000),
        calls=[window("cheap", 10), window("dear", 1_500_000_000), window("dear", 0, failed=2)],
        wrong=Estimate(0.004, 0.001, 0.012, 55),
    )
    return replace(usual, **changes)


def said(wanted: Wanted = DAILY, **changes) -> Message:
    return report(
        wanted, past(**changes), service="sentinel", stamp=lambda moment: f"{datetime.fromtimestamp(moment, UTC):%d. %H:%M}"
    )


def test_what_it_says():
    told = said()
    assert told.title == "sentinel: the day, $1.50 spent, $12.34 saved (morning)"
    assert told.text.splitlines() == [
        "21. 08:00 to 22. 08:00; in brackets the day before.",
        "Requests: 105 (4)",
        "Hit rate: 80.00% (25.00%)",
        "Spent: $1.50 ($0.000250)",
        "Saved: $12.34 ($0.00)",
        "Wrong hits: 0.40% (0.10% to 1.20%) of the requests that reached the decision in the last 7 days",
        "By model:",
        "- mock/dear: total_requests 8, error_rate 37.50%, latency_p95_ms 1,020 ms, total_cost $1.50",
        "- mock/cheap: total_requests 4, error_rate 25.00%, latency_p95_ms 1,020 ms, total_cost $0.000000",
    ]
    assert told.data["now"] == {"requests": 105, "hits": 80, "hit_rate": 0.8, "spent": 1.5, "saved": 12.34}
    assert [row["name"] for row in told.data["rows"]] == ["mock/dear", "mock/cheap"]
    assert (told.kind, told.good, told.data["report"], told.data["more"]) == ("report", True, "morning", 0)


def test_of_nothing_it_says_that_there_was_nothing():
    told = said(requests=Stretch(0), before=Stretch(0), calls=[], wrong=Estimate(0.0, 0.0, 1.0, 0))
    assert "Hit rate: - (-)" in told.text
    assert "Wrong hits: not known" in told.text
    assert told.text.endswith("No provider was called.")
    assert told.data["wrong_hits"] is None


def test_a_table_has_an_end_and_names_mention_nobody():
    told = said(
        replace(DAILY, by="provider"), calls=[replace_provider(window("m", n), f"p{n}@everyone") for n in range(ROWS + 3)]
    )
    assert told.text.endswith("and 3 more")
    assert len(told.data["rows"]) == ROWS
    assert "@" not in told.text


def replace_provider(one: Window, provider: str) -> Window:
    one.provider = provider
    return one


def test_every_figure_that_may_be_asked_for_is_one():
    assert set(Metric.__args__) <= set(FIGURES)
    told = said(replace(DAILY, metrics=Metric.__args__))
    assert all(f"{name} " in told.text for name in Metric.__args__)


@pytest.mark.parametrize(("buckets", "said_of_it"), [({}, "-"), ({80: 3}, "1,020 ms")])
def test_what_nobody_knows_has_no_figure(buckets, said_of_it):
    one = window("m", 10)
    one.buckets = buckets
    assert f"latency_p95_ms {said_of_it}" in said(calls=[one]).text

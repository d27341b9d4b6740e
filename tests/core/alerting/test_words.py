"""A rule in one line, as people read it."""

import pytest

from sentinel_gateway.core.alerting.board import Alert, Notice
from sentinel_gateway.core.alerting.notices import messages, trial
from sentinel_gateway.core.alerting.rules import DEFAULTS, Rule
from sentinel_gateway.core.alerting.words import amount, condition, over, span, usd
from sentinel_gateway.core.pricing import NANO_PER_USD


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            Rule(name="a", metric="error_rate", limit=0.2, by="provider"),
            "the share of failed calls is above 20.00%, for each provider",
        ),
        (
            Rule(name="a", metric="latency_p95_ms", limit=8000, provider="groq", model="x", after=600),
            "the p95 latency is above 8,000 ms, of groq/x, for 10 minutes",
        ),
        (Rule(name="a", metric="provider_health", limit=50, below=True), "a provider's health is below 50"),
        (
            Rule(name="a", kind="change", metric="hit_rate", limit=0.5, below=True, against=86_400),
            "the hit rate is below 0.5 times what it was 1 day before",
        ),
        (
            Rule(name="a", kind="change", metric="total_cost", limit=3),
            "what providers took is above 3 times what it was in the 5 minutes before",
        ),
        (
            Rule(name="a", kind="burn_rate", metric="error_rate", limit=0.01),
            "the share of failed calls uses its allowance of 1.00% up too fast",
        ),
        (
            Rule(name="a", kind="forecast", metric="budget_used", limit=1),
            "what is spent of a budget will end above 100.00% at this pace",
        ),
        (Rule(name="a", metric="circuit_open", limit=1), "a circuit is open"),
        (Rule(name="a", kind="anomaly"), "something out of the ordinary lasts, critical"),
    ],
)
def test_a_rule_in_one_line(rule, said):
    assert condition(rule) == said


def test_every_default_rule_has_one():
    assert len({condition(rule) for rule in DEFAULTS}) == len(DEFAULTS)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(86_400, "1 day"), (172_800, "2 days"), (7_200, "2 hours"), (60, "1 minute"), (5_400, "90 minutes"), (90, "90 seconds")],
)
def test_a_time_is_told_in_the_largest_whole_unit(seconds, said):
    assert span(seconds) == said
    assert over(seconds) == f"over the last {said}"


@pytest.mark.parametrize(
    ("nano", "said"),
    [
        (1_234_567_890, "1.235 USD"),
        (5_000_000_000, "5 USD"),
        (30_770, "0.00003077 USD"),
        (3.2, "0.000000003 USD"),
        (12_345_678_900_000, "12345.68 USD"),
        (1_000_000_000_000_000, "1000000 USD"),
        (0, "0 USD"),
    ],
)
def test_money_is_told_in_plain_decimals_to_four_digits_and_to_the_cent(nano, said):
    assert usd(nano) == said
    assert amount(Rule(name="a", metric="total_cost"), nano / NANO_PER_USD) == said


def alert(rule, *channels):
    return Alert(
        rule=rule, subject="", severity="page", channels=channels, phase="firing", since=0.0, value=2.0, limit=1.0, text="is up"
    )


def test_a_channel_of_which_no_alert_is_hears_nothing():
    notice = Notice((alert("costs", "mail"), alert("errors", "mail", "chat")), (), (alert("health", "pager"),), {})
    told = messages(notice, ["mail", "chat", "pager", "silent"], service="sentinel", stamp=str)
    assert {channel: message.data["counts"] for channel, message in told.items()} == {
        "mail": {"firing": 2, "still_firing": 0, "resolved": 0},
        "chat": {"firing": 1, "still_firing": 0, "resolved": 0},
        "pager": {"firing": 0, "still_firing": 0, "resolved": 1},
    }


def test_an_alert_without_channels_goes_to_all():
    told = messages(Notice((), (alert("costs"),), (), {}), ["mail", "chat"], service="sentinel", stamp=str)
    assert [message.data["counts"]["still_firing"] for message in told.values()] == [1, 1]


def test_a_trial_says_what_it_is():
    told = trial("mail", service="sentinel")
    assert told.title == "sentinel: test"
    assert "the channel 'mail'" in told.text
    assert (told.severity, told.good, told.data["test"]) == ("ticket", True, True)

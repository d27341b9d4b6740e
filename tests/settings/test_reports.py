"""What a configuration may say of reports, and what it is told where that is no good."""

import pytest

from tests.settings.test_faults import FREE

CHANNEL = "alerts: {channels: {ops: {apprise: 'json://127.0.0.1:9'}}}\n"


def test_nothing_has_to_be_said_but_a_name(configure):
    one = configure(f"{FREE}{CHANNEL}reports: {{morning: }}").settings.reports["morning"]
    assert (one.every, one.on, one.at, one.zone, one.channels, one.by) == ("day", None, 8, "UTC", (), "model")


@pytest.mark.parametrize(
    ("written", "place", "sentence"),
    [
        ("{zone: Europe/Atlantis}", "reports.one.zone", "a time zone that this system knows"),
        ("{zone: ../../etc/passwd}", "reports.one.zone", "a time zone that this system knows"),
        ("{at: 24}", "reports.one.at", "at most 23"),
        ("{every: month}", "reports.one.every", "'day' or 'week'"),
        ("{on: monday}", "reports.one.on", "belongs to a weekly report"),
        ("{every: week, on: mon}", "reports.one.on", "'monday'"),
        ("{channels: [opps]}", "reports.one.channels.0", "did you mean 'ops'?"),
        ("{metrics: [joy]}", "reports.one.metrics.0", "'total_requests'"),
        ("{metrics: []}", "reports.one.metrics", "needs at least one"),
    ],
)
def test_one_fault(faults, written, place, sentence):
    [(where, said)] = faults(f"{FREE}{CHANNEL}reports: {{one: {written}}}")
    assert where.endswith(place)
    assert sentence in said


@pytest.mark.parametrize(
    ("beside", "sentence"),
    [
        ("", "name one under alerts.channels"),
        (CHANNEL.replace("alerts: {", "alerts: {enabled: false, "), "leave alerts.enabled on"),
        (CHANNEL + "ledger: {enabled: false}\n", "set ledger.enabled to true"),
    ],
)
def test_what_reports_need(faults, beside, sentence):
    [(where, said)] = faults(f"{FREE}{beside}reports: {{morning: {{}}}}")
    assert where.endswith("reports")
    assert sentence in said

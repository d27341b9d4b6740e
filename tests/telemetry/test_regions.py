"""Latency by region: a day of it, of so many regions and no more."""

from sentinel_gateway.core.record import Record
from sentinel_gateway.core.windows import OTHER
from sentinel_gateway.telemetry.regions import HOUR, HOURS, MOST, Regions

NOW = 1_800_000_000 // HOUR * HOUR


def test_regions_are_bounded_and_odd_ones_are_one():
    regions = Regions(lambda: NOW)
    for number in range(MOST + 10):
        regions.add(Record(NOW, "", "", "", "", status=200, seconds=0.5, region=f"r{number}"))
    for odd in ("a b", "<x>", "x" * 33, "\n"):
        regions.add(Record(NOW, "", "", "", "", status=200, seconds=0.5, region=odd))
    counts = {window.model: window.requests for window in regions.since(NOW)}
    assert len(counts) == MOST + 1
    assert counts[OTHER] == 14


def test_a_day_is_kept():
    now = float(NOW)
    regions = Regions(lambda: now)
    for hour in range(3 * HOURS):
        now = NOW + hour * HOUR
        regions.add(Record(now, "", "", "", "", status=200, seconds=0.5, region="DE"))
    assert len(regions.since(0)) == HOURS
    assert [window.start for window in regions.since(int(now))] == [int(now)]

"""What the bench of overload makes of looks at a gateway."""

import pytest
from msgspec.structs import replace

from bench.client import Exchange
from bench.load import Quantiles, Turn
from bench.watching import Watched, looks


def took(seconds: float) -> Quantiles:
    return Quantiles(seconds, seconds, seconds, seconds)


def test_looks_are_told_apart():
    done = [
        ("/metrics", Turn(0, 10.0), Exchange("", 10.1, 10.2, 10.3)),
        ("/livez", Turn(1, 11.0), Exchange("", 11.0, 11.1, 11.1)),
        ("/api/monitoring/savings", Turn(2, 12.0), Exchange("", 12.0, 12.1, 13.5)),
        ("/api/monitoring/health", Turn(3, 13.0), Exchange("503", 13.2, 0.0, 13.21, wait=1.5)),
        ("/ready", Turn(4, 14.0), Exchange("503", 14.0, 0.0, 14.03)),
        ("/health", Turn(5, 15.0), Exchange("timeout", 15.0, 0.0, 25.0)),
    ]
    found = looks(done, 7.0, 0.5)
    assert (found.rate, found.refused, found.looks) == (7.0, 0.5, 6)
    assert found.probes.max == pytest.approx(0.3), "from the planned moment"
    assert (found.monitoring.max, found.slowest) == (pytest.approx(1.5), "/api/monitoring/savings")
    assert found.told.max == pytest.approx(0.03), "from when it was sent"
    assert (found.without_wait, found.problems) == (1, {"503": 2, "timeout": 1})


GOOD = looks(
    [("/livez", Turn(0, 0.0), Exchange("", 0.0, 0.0, 0.1)), ("/x", Turn(1, 0.0), Exchange("", 0.0, 0.0, 2.0))], 3000.0, 0.5
)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"refused": 0.09}, ["share of the others that is refused"]),
        ({"looks": 1}, ["looks"]),
        ({"problems": {"503": 2, "timeout": 1}}, ["neither answered nor refused"]),
        ({"probes": took(1.1)}, ["slowest probe or scrape, ms"]),
        ({"monitoring": took(5.1)}, ["slowest of the monitoring, ms"]),
        ({"told": took(0.021)}, ["p99 of refusals, ms"]),
        ({"without_wait": 1}, ["refusals without Retry-After"]),
    ],
)
def test_each_bar_can_be_missed(change, missed):
    bars = Watched(["/livez", "/x"], GOOD, replace(GOOD, **change)).bars()
    assert [bar.name.partition(": ")[2] for bar in bars if not bar.holds] == missed

"""docs/overload.md says what the code says, shows what `make load` has drawn, and names what the log says."""

import re
from pathlib import Path

from bench import overload
from bench.flood import Crowd
from bench.streams import LONG as LONG_ANSWER
from sentinel_gateway.pipeline import strain
from sentinel_gateway.pipeline.admit import RETRY_AFTER
from sentinel_gateway.settings.model import Server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "overload.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def test_the_bounds_are_those_of_the_code():
    assert f"more than {1000 * strain.LONG:.0f} ms of work for half a second" in PAGE
    assert strain.PATIENCE == 0.5
    assert f"more than {1000 * strain.SHORT:.0f} ms of work is refused, until nobody has had to be refused for a second" in PAGE
    assert f"less than {1000 * strain.LONG:.0f} ms of it for half a second" in OPERATIONS
    assert f"more than {1000 * strain.SHORT:.0f} ms of it; until nobody has been refused for a second" in OPERATIONS
    assert strain.CALM == 1.0
    assert RETRY_AFTER == (1.0, 3.0)
    server = Server()
    assert f"{server.max_in_flight:,} requests in flight, {server.queue} waiting for a second" in PAGE
    assert server.queue_wait == 1.0


def test_it_was_measured_as_the_page_says():
    assert f"takes {overload.LATENCY_MS} ms for an answer" in PAGE
    assert f"fewer than {100 * overload.SENT:.0f} %" in PAGE
    assert overload.SANE == 0.05
    assert overload.MISSES[0] == 0.5
    assert overload.MISSES[-1] == 5.0
    low, high = Crowd(1).backoff
    assert f"after {low:g} to {high:g} s" in PAGE
    assert (overload.Plan().storm, overload.Plan().streams, overload.Plan().readers) == (30.0, 10_000, 500)
    assert f"huge={16 * 2**20}" == LONG_ANSWER
    assert "\nload: " in (ROOT / "Makefile").read_text()


def test_the_pictures_are_there():
    shown = re.findall(r"\]\((images/[^)]+)\)", PAGE)
    assert len(shown) == 3
    for picture in shown:
        drawn = (ROOT / "docs" / picture).read_text()
        assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert "prefers-color-scheme:dark" in drawn


def test_the_events_are_told():
    told = set(re.findall(r"`((?:overload|requests)_(?:began|ended|refused))`", PAGE))
    assert told == {"overload_began", "overload_ended", "requests_refused"}
    sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert all(f'"{event}"' in sources for event in told)

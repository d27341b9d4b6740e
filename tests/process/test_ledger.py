"""Counts that go on after a restart, however the process before it ended."""

import time
from pathlib import Path

import pytest

from sentinel_gateway.ledger.frames import ALL, MAGIC, read
from sentinel_gateway.ledger.journal import SUFFIX
from sentinel_gateway.ports.ledger import Handled
from tests.process.conftest import DEADLINE, committed

KEY = "an-admin-key-of-the-tests-that-is-long-enough"
DEMO = {"SENTINEL_CACHE__SEMANTIC__ENABLED": "false", "SENTINEL_ADMIN_KEY": KEY}


def figures(program) -> dict:
    metrics = program.request("GET", "/v1/metrics").json
    stats = program.request("GET", "/admin/stats", authorization=f"Bearer {KEY}").json["cache_stats"]
    snapshot = program.request("GET", "/metrics", accept="application/json").json
    costs = program.request("GET", "/costs").json
    told = {name: {key: value for key, value in one.items() if key != "last_updated"} for name, one in costs.items()}
    return {"metrics": metrics, "stats": stats, "cache": snapshot["cache_performance"], "money": snapshot["cost_analysis"]} | told


def go_on(program, before: dict) -> None:
    """Returns once it tells of all that was before it. Who asks waits 5 s for that at most, and a machine may stand still."""
    end = time.monotonic() + DEADLINE
    while (told := figures(program)) != before:
        assert time.monotonic() < end, f"{told} instead of {before}"
        time.sleep(0.02)


def journaled(home: Path, count: int) -> None:
    """Returns once the journal holds the rows of so many requests: those of hits are gathered for a moment."""
    end, found = time.monotonic() + DEADLINE, 0
    while found < count:
        assert time.monotonic() < end, f"{found} of {count} are there"
        time.sleep(0.02)
        written = [read(file.read_bytes(), ALL, len(MAGIC)).rows for file in home.rglob(f"*{SUFFIX}")]
        found = sum(isinstance(row, Handled) for rows in written for row in rows)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_counters_after_kill_9(serve, how, tmp_path) -> None:
    first = serve(**DEMO)
    for text in ("one", "one", "two", "one"):
        assert first.ask(text).status == 200
    assert first.request("POST", "/v1/query", {"prompt": "three"}).status == 200
    before = figures(first)
    assert before["stats"] == {"exact_hits": 2, "semantic_hits": 0, "misses": 3, "total_requests": 5, "hit_rate": 40.0}
    assert before["metrics"]["cost_usd"] > 0
    assert {"demo:chat", "demo:query"} <= before.keys()
    if how == "kill":
        committed(tmp_path, "replies", 3)
        journaled(tmp_path, 5)
        first.kill()
    else:
        first.stop()

    second = serve(**DEMO)
    go_on(second, before)
    assert second.ask("one").headers["x-cache"] == "exact"
    after = figures(second)
    assert after["stats"]["exact_hits"] == 3
    assert after["demo:chat"]["total_cost_usd"] == before["demo:chat"]["total_cost_usd"]
    assert after["demo:chat"]["total_saved_usd"] > before["demo:chat"]["total_saved_usd"]

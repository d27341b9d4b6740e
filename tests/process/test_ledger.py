"""Counts that go on after a restart, however the process before it ended."""

import time

import pytest

KEY = "an-admin-key-of-the-tests-that-is-long-enough"
DEMO = {"SENTINEL_CACHE__SEMANTIC__ENABLED": "false", "SENTINEL_ADMIN_KEY": KEY}


def figures(program) -> dict:
    metrics = program.request("GET", "/v1/metrics").json
    stats = program.request("GET", "/admin/stats", authorization=f"Bearer {KEY}").json["cache_stats"]
    snapshot = program.request("GET", "/metrics", accept="application/json").json
    costs = program.request("GET", "/costs").json
    told = {name: {key: value for key, value in one.items() if key != "last_updated"} for name, one in costs.items()}
    return {"metrics": metrics, "stats": stats, "cache": snapshot["cache_performance"], "money": snapshot["cost_analysis"]} | told


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_counters_after_kill_9(serve, how) -> None:
    first = serve(**DEMO)
    for text in ("one", "one", "two", "one"):
        assert first.ask(text).status == 200
    assert first.request("POST", "/v1/query", {"prompt": "three"}).status == 200
    before = figures(first)
    assert before["stats"] == {"exact_hits": 2, "semantic_hits": 0, "misses": 3, "total_requests": 5, "hit_rate": 40.0}
    assert before["metrics"]["cost_usd"] > 0
    assert {"demo:chat", "demo:query"} <= before.keys()
    if how == "kill":
        time.sleep(0.5)  # rows of hits are written within 50 ms
        first.kill()
    else:
        first.stop()

    second = serve(**DEMO)
    assert figures(second) == before
    assert second.ask("one").headers["x-cache"] == "exact"
    after = figures(second)
    assert after["stats"]["exact_hits"] == 3
    assert after["demo:chat"]["total_cost_usd"] == before["demo:chat"]["total_cost_usd"]
    assert after["demo:chat"]["total_saved_usd"] > before["demo:chat"]["total_saved_usd"]

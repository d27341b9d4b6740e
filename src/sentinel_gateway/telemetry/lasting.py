"""Counts that go on after a restart: those since the start, and those that the ledger has of the time before. Pure."""

from collections.abc import Mapping

from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.telemetry.costs import face
from sentinel_gateway.telemetry.tallies import Totals


def counters(totals: Totals, past: Mapping[str, int]) -> dict[str, float]:
    """Seed 000's cache statistics. `past` are requests by the cache's part in them."""
    exact, semantic = totals.exact_hits + past.get("exact", 0), totals.semantic_hits + past.get("semantic", 0)
    misses = totals.misses + past.get("miss", 0)
    total = exact + semantic + misses
    return {
        "exact_hits": exact,
        "semantic_hits": semantic,
        "misses": misses,
        "total_requests": total,
        "hit_rate": round(100 * (exact + semantic) / total, 2) if total else 0.0,
    }


def costs_with(now: Mapping[tuple[str, str], Costs], past: Mapping[tuple[str, str], Costs]) -> dict[tuple[str, str], Costs]:
    """Both, by model and face; `past` is by model and route."""
    whole: dict[tuple[str, str], Costs] = {}
    for use, costs in [*now.items(), *(((model, face(route)), costs) for (model, route), costs in past.items())]:
        whole.setdefault(use, Costs()).add(costs)
    return whole

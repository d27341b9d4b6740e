"""Money as operators and the seeds' clients are told of it. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sentinel_gateway.core.pricing import FALLBACK, NANO_PER_USD, Costs

Use = tuple[str, str]
"""A model by its public name, and the variant of it: the face by which it was asked."""
NOTE: Final = "Costs are those of each model's own price; one without a price is counted as the model assumed."


def costs_body(costs: Mapping[Use, Costs]) -> dict[str, Any]:
    """Seed 001's `/costs`, by `model:variant`, with what was saved beside it. Tokens are those that providers were paid for."""
    return {
        f"{model}:{variant}": {
            "total_requests": one.requests,
            "total_input_tokens": one.prompt_tokens,
            "total_output_tokens": one.completion_tokens,
            "total_cost_usd": one.cost / NANO_PER_USD,
            "last_updated": datetime.fromtimestamp(one.updated, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "cache_hits": one.hits,
            "total_saved_usd": one.saved / NANO_PER_USD,
            "estimated_cost_usd": one.estimated / NANO_PER_USD,
            "unpriced_calls": one.unpriced,
        }
        for (model, variant), one in sorted(costs.items())
    }


def snapshot(counters: Mapping[str, float], costs: Costs, priced: Sequence[str]) -> dict[str, Any]:
    """Seed 000's `/metrics`: percentages and dollars are strings. `priced` are the models whose own price is known."""
    used, saved = costs.prompt_tokens + costs.completion_tokens, costs.saved_tokens
    return {
        "cache_performance": {
            "exact_hits": counters["exact_hits"],
            "semantic_hits": counters["semantic_hits"],
            "total_hits": counters["exact_hits"] + counters["semantic_hits"],
            "misses": counters["misses"],
            "total_requests": counters["total_requests"],
            "hit_rate_percent": f"{counters['hit_rate']:.2f}%",
        },
        "token_usage": {
            "tokens_saved": saved,
            "tokens_used": used,
            "total_tokens_without_cache": saved + used,
        },
        "cost_analysis": {
            "cost_saved_usd": _dollars(costs.saved),
            "cost_spent_usd": _dollars(costs.cost),
            "total_cost_without_cache_usd": _dollars(costs.saved + costs.cost),
            "savings_percent": f"{100 * costs.saved / max(costs.saved + costs.cost, 1):.2f}%",
            "note": NOTE,
        },
        "pricing": {
            "model_assumed": FALLBACK.source,
            "input_per_1m_tokens": f"${FALLBACK.usd_per_million('input'):.2f}",
            "output_per_1m_tokens": f"${FALLBACK.usd_per_million('output'):.2f}",
            "supported_models": list(priced),
        },
    }


def _dollars(nano_usd: int) -> str:
    return f"${nano_usd / NANO_PER_USD:.4f}"

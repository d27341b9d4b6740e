"""What a request may cost at most, where it says how it is to be served: in the words of both dialects."""

import json

import pytest

from sentinel_gateway.api.wire.anthropic_request import read_messages
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.pricing import Price, Rates, Unpriced
from sentinel_gateway.core.routing import Route, Target
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.plan import Plan

MTOK = 10**18
STANDARD = Price(Rates.of({"input": 0, "output": MTOK}))
DEAR = Price(Rates.of({"input": 0, "output": 3 * MTOK}))
CHEAP = Price(Rates.of({"input": 0, "output": MTOK // 2}))
PRICES = {
    "one/tiered": Price(STANDARD.rates, service_tiers={"flex": CHEAP, "priority": DEAR}),
    "one/plain": STANDARD,
    "one/unknown": Unpriced("one/unknown"),
}
BODY = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def held(read, *models, **fields):
    """In nano-USD, of a hundred tokens."""
    request = read(json.dumps(BODY | fields).encode(), max_depth=32)
    plan = Plan(request, Route(tuple(Target("one", model) for model in models)), "key")
    return Costing(PRICES.__getitem__, lambda _: 1000, output=100).most(plan).amount(100)


@pytest.mark.parametrize("tier", [{}, {"service_tier": None}, {"service_tier": "default"}])
def test_the_usual_holds_the_usual_price(tier):
    assert held(read_request, "tiered", **tier) == 100_000


@pytest.mark.parametrize("tier", ["priority", "auto", "flex", "fast"])
def test_whoever_names_a_tier_is_held_the_dearest(tier):
    """Providers serve another than that which was asked for, if they are full."""
    assert held(read_request, "tiered", service_tier=tier) == 300_000
    assert held(read_request, "plain", "tiered", "unknown", service_tier=tier) == 300_000
    assert held(read_request, "plain", "unknown", service_tier=tier) == 100_000


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({}, 100_000),
        ({"service_tier": "standard_only"}, 100_000),
        ({"speed": "standard"}, 100_000),
        ({"service_tier": "auto"}, 300_000),
        ({"speed": "fast"}, 300_000),
    ],
)
def test_so_it_is_in_the_words_of_anthropic(fields, amount):
    assert held(read_messages, "tiered", **fields) == amount


def test_what_is_not_bound_buys_what_the_dearest_leaves():
    request = read_request(json.dumps(BODY | {"service_tier": "auto"}).encode(), max_depth=32)
    most = Costing(PRICES.__getitem__, lambda _: 1000, output=100).most(Plan(request, Route((Target("one", "tiered"),)), "key"))
    bought = most.buys(250_000)
    assert bought == 83
    assert most.amount(bought) <= 250_000 < most.amount(bought + 1)
